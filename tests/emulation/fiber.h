/* Fibers: threads that run only when told to and stop only by themselves. One is resumed at a time,
 * from outside all of them. */
#ifndef EMULATION_FIBER_H
#define EMULATION_FIBER_H

namespace emulation {

struct fiber {
  void (*body)(void *) = nullptr;
  void *argument = nullptr;
  char *stack = nullptr;
  void *stack_pointer = nullptr; /* or the ucontext_t, where there is no switch of our own */
  void *fake_stack = nullptr;    /* AddressSanitizer's */
  void *tsan = nullptr;          /* ThreadSanitizer's */
  bool finished = false;
};

void fiber_start(fiber *f, void (*body)(void *), void *argument);
void fiber_resume(fiber *f);
void fiber_suspend();         /* back to whoever resumed the fiber that calls it */
void fiber_release(fiber *f); /* finished or given up: what it held on its stack is forgotten */

} // namespace emulation

#endif
