// Catch2 3 or 2, whichever the system has (Debian 12 ships 2).
#pragma once
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
