/* Atomics on integers. Those on floating-point numbers are left out: their order, and so their
 * result, depends on the schedule. */
#ifndef EMULATION_ATOMICS_H
#define EMULATION_ATOMICS_H

#define EMULATION_ATOMICS(type)                                                                   \
  static inline type atomicAdd(type *at, type value) {                                            \
    return __atomic_fetch_add(at, value, __ATOMIC_ACQ_REL);                                       \
  }                                                                                               \
  static inline type atomicOr(type *at, type value) {                                             \
    return __atomic_fetch_or(at, value, __ATOMIC_ACQ_REL);                                        \
  }                                                                                               \
  static inline type atomicAnd(type *at, type value) {                                            \
    return __atomic_fetch_and(at, value, __ATOMIC_ACQ_REL);                                       \
  }                                                                                               \
  static inline type atomicExch(type *at, type value) {                                           \
    return __atomic_exchange_n(at, value, __ATOMIC_ACQ_REL);                                      \
  }                                                                                               \
  static inline type atomicCAS(type *at, type expected, type value) {                             \
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE); \
    return expected;                                                                              \
  }                                                                                               \
  static inline type atomicMax(type *at, type value) {                                            \
    type old = __atomic_load_n(at, __ATOMIC_ACQUIRE);                                             \
    while (old < value && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_ACQ_REL,  \
                                                       __ATOMIC_ACQUIRE)) {                       \
    }                                                                                             \
    return old;                                                                                   \
  }                                                                                               \
  static inline type atomicMin(type *at, type value) {                                            \
    type old = __atomic_load_n(at, __ATOMIC_ACQUIRE);                                             \
    while (value < old && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_ACQ_REL,  \
                                                       __ATOMIC_ACQUIRE)) {                       \
    }                                                                                             \
    return old;                                                                                   \
  }

EMULATION_ATOMICS(int)
EMULATION_ATOMICS(unsigned int)
EMULATION_ATOMICS(unsigned long long)
#undef EMULATION_ATOMICS

#endif
