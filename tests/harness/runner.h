/* The end of every check_*.c: runs its suite without fork, since CUDA does not survive a fork and
 * sanitizers see more without one. */
#ifndef CUMEGA_TESTS_RUNNER_H
#define CUMEGA_TESTS_RUNNER_H

#include "assertions.h"
#include <stdlib.h>

static inline int run_suite(Suite *suite) {
  SRunner *runner = srunner_create(suite);
  srunner_set_fork_status(runner, CK_NOFORK);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* A suite of one case whose tests may each take `seconds`. */
static inline TCase *add_case(Suite *suite, const char *name, double seconds) {
  TCase *tests = tcase_create(name);
  tcase_set_timeout(tests, seconds);
  suite_add_tcase(suite, tests);
  return tests;
}

#endif
