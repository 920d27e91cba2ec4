/* linux/in.h, as students write it: everything is in bpfsim.h. */
#pragma once
#include "../bpfsim.h"
