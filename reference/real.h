/* The type that the references compute in. long double has 64 bits or more, so the roundings of a
 * reference are negligible beside the library's. With <tgmath.h> exp, sqrt and similar functions
 * have the same precision. A file that needs more bits defines this guard, `real`, and its own
 * functions, and then includes the reference's source. */
#ifndef REFERENCE_REAL_H
#define REFERENCE_REAL_H

#include <tgmath.h>

typedef long double real;

#endif
