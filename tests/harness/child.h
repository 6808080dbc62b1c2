/* Child processes of a test, made with fork, and which sanitizer is active. */
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

/* Ends the child by exit, which adds what it ran to the counts of scripts/check_coverage. Under a
 * sanitizer it must not: there exit would look at the parent's memory and threads. Call
 * fflush(NULL) and wait_for_settled_threads before the fork. */
static inline void end_child(int code) {
#ifdef SANITIZED
  _exit(code);
#else
  exit(code);
#endif
}

#endif
