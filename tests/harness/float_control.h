/* The part of the floating-point environment that <fenv.h> does not cover: flush-to-zero, on
 * machines that have such a bit. */
#ifndef CUMEGA_TESTS_FLOAT_CONTROL_H
#define CUMEGA_TESTS_FLOAT_CONTROL_H

#if defined(__x86_64__)
#define FLUSH_TO_ZERO 0x8040u /* FTZ and DAZ in MXCSR */
static inline unsigned control(void) {
  return __builtin_ia32_stmxcsr();
}
static inline void set_control(unsigned bits) {
  __builtin_ia32_ldmxcsr(bits);
}
#else
#define FLUSH_TO_ZERO 0u
static inline unsigned control(void) {
  return 0;
}
static inline void set_control(unsigned bits) {
  (void)bits;
}
#endif

#endif
