/* How the program ends, and how it says why. */
#ifndef CUMEGA_TOOLS_FAILURE_H
#define CUMEGA_TOOLS_FAILURE_H

#include <cumega/status.h>

/* EXIT_DEVICE is also for other things that the machine lacks, such as memory. */
enum exit_code { EXIT_OK = 0, EXIT_WRONG = 1, EXIT_INPUT = 2, EXIT_NOTHING = 3, EXIT_DEVICE = 4 };

/* Prints "cumega: <sentence>" on stderr and returns code. */
int fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The worse of two codes, in the order 1, 4, 2, 3, 0. A wrong result is the worst, and no other
 * code may hide it. */
int worse_code(int a, int b);

/* The exit code for a status of the library: EXIT_INPUT, or EXIT_DEVICE. */
int exit_code_of(cumega_status status);

#endif
