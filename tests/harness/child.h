/* Children of a test, made with fork, and which sanitizer looks on. */
#ifndef CUMEGA_TESTS_CHILD_H
#define CUMEGA_TESTS_CHILD_H

#include <stdlib.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED 1
#endif

/* By exit, which adds what the child has run to the counts of scripts/check_coverage; but sanitizers look at the
 * parent's memory and threads there. Before the fork stand fflush(NULL) and wait_for_settled_threads. */
static inline void end_child(int code) {
#ifdef SANITIZED
  _exit(code);
#else
  exit(code);
#endif
}

#endif
