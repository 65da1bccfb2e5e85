// What the kernel computes by tiles, without tiles.

#include "emulated.h"

#include "../../src/jeatcli/acceleration/native/amx_functions.h"

extern "C" long lanes() { return LANES; }
