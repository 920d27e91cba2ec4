/* linux/if_packet.h, as BCC programs name it: what is modelled of it is in helpers.h. */
#pragma once
#include "../helpers.h"
