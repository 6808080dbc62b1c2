/* Barriers, shuffles and votes. Every call passes on its place in the source, for the reports and
 * because threads that meet must meet at one place. */
#ifndef EMULATION_COLLECTIVES_H
#define EMULATION_COLLECTIVES_H

#include <stdint.h>
#include <string.h>
#include "emulation_place.h"

typedef struct emulation_site {
  const char *file;
  int line;
  const char *call;
} emulation_site;

extern "C" {
/* Waits for the whole block; returns the number of threads whose predicate was not 0. */
int emulation_barrier(emulation_site site, int predicate);

/* Waits for the lanes of mask, each with a value; returns that of lane `source`. */
uint64_t emulation_exchange(emulation_site site, unsigned mask, uint64_t value, int source);

/* Waits for the lanes of mask; returns the lanes whose predicate was not 0. */
unsigned emulation_ballot(emulation_site site, unsigned mask, int predicate);

unsigned emulation_lane(void); /* this thread's, 0 .. 31 */
void emulation_fence(void);
}

/* The caller's place, by default arguments. */
#define EMULATION_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define EMULATION_SITE(call)                                                                      \
  emulation_site {                                                                                \
    file, line, call                                                                              \
  }

static inline void __syncthreads(EMULATION_AT) {
  emulation_barrier(EMULATION_SITE("__syncthreads"), 0);
}
static inline int __syncthreads_count(int predicate, EMULATION_AT) {
  return emulation_barrier(EMULATION_SITE("__syncthreads_count"), predicate);
}
static inline int __syncthreads_or(int predicate, EMULATION_AT) {
  return emulation_barrier(EMULATION_SITE("__syncthreads_or"), predicate) != 0;
}
static inline int __syncthreads_and(int predicate, EMULATION_AT) {
  return emulation_barrier(EMULATION_SITE("__syncthreads_and"), !predicate) == 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATION_AT) {
  emulation_ballot(EMULATION_SITE("__syncwarp"), mask, 0);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATION_AT) {
  return emulation_ballot(EMULATION_SITE("__ballot_sync"), mask, predicate);
}
static inline int __any_sync(unsigned mask, int predicate, EMULATION_AT) {
  return emulation_ballot(EMULATION_SITE("__any_sync"), mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, EMULATION_AT) {
  return emulation_ballot(EMULATION_SITE("__all_sync"), mask, !predicate) == 0;
}

/* A kernel must not depend on which lanes happen to run together. */
unsigned __activemask() = delete;

template <typename T>
static inline T emulation_shuffle(emulation_site site, unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 32 or 64 bits");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = emulation_exchange(site, mask, bits, (int)source);
  memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATION_AT) {
  const unsigned lane = emulation_lane(), inside = (unsigned)width - 1;
  return emulation_shuffle(EMULATION_SITE("__shfl_sync"), mask, value,
                           (lane & ~inside) | ((unsigned)source & inside));
}
template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                               EMULATION_AT) {
  const unsigned lane = emulation_lane(), place = lane & ((unsigned)width - 1);
  return emulation_shuffle(EMULATION_SITE("__shfl_up_sync"), mask, value,
                           place >= delta ? lane - delta : lane);
}
template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 EMULATION_AT) {
  const unsigned lane = emulation_lane(), place = lane & ((unsigned)width - 1);
  return emulation_shuffle(EMULATION_SITE("__shfl_down_sync"), mask, value,
                           place + delta < (unsigned)width ? lane + delta : lane);
}
/* A source lane beyond the caller's group of width lanes gives the caller's own value; one in an
 * earlier group is allowed. */
template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, EMULATION_AT) {
  const unsigned lane = emulation_lane(), source = lane ^ (unsigned)lanes;
  const unsigned last = lane | ((unsigned)width - 1);
  return emulation_shuffle(EMULATION_SITE("__shfl_xor_sync"), mask, value,
                           source <= last ? source : lane);
}

static inline void __threadfence() {
  emulation_fence();
}
static inline void __threadfence_block() {
  emulation_fence();
}
static inline void __threadfence_system() {
  emulation_fence();
}

#endif
