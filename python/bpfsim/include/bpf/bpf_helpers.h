/* bpf/bpf_helpers.h, as students write it: everything is in bpfsim.h. */
#pragma once
#include "../bpfsim.h"
