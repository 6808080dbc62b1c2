/* Fibers: threads that run only when resumed and stop only by themselves. One runs at a time,
 * resumed from outside all fibers. */
#ifndef EMULATION_FIBER_H
#define EMULATION_FIBER_H

namespace emulation {

struct fiber {
  void (*body)(void *) = nullptr;
  void *argument = nullptr;
  char *stack = nullptr;
  void *stack_pointer = nullptr; /* or the ucontext_t, on machines without emulation_switch */
  void *fake_stack = nullptr;    /* AddressSanitizer's */
  void *tsan = nullptr;          /* ThreadSanitizer's */
  bool finished = false;
};

void fiber_start(fiber *f, void (*body)(void *), void *argument);
void fiber_resume(fiber *f);
void fiber_suspend();         /* returns from the calling fiber to the code that resumed it */
void fiber_release(fiber *f); /* finished or abandoned: what its stack held is forgotten */

} // namespace emulation

#endif
