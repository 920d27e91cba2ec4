/* After the learner's text: its license, GPL unless BPF_LICENSE says another. No guard: it stands once, at
 * the end. */
#ifndef BPF_LICENSE
#define BPF_LICENSE GPL
#endif
#define BCC_TEXT(x) #x
#define BCC_LICENSE(x) char _license[] __attribute__((section("license"), used)) = BCC_TEXT(x);
BCC_LICENSE(BPF_LICENSE)
