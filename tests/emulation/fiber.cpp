/* Switching stacks. On x86-64 this takes a few instructions (for the registers that a call keeps,
 * and the stack pointer); elsewhere it uses ucontext, whose system calls cost ten times as much.
 * Both sanitizers are told of every switch: AddressSanitizer which stack is in use,
 * ThreadSanitizer which thread runs and that a switch by itself orders no accesses. */
#include "fiber.h"

#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

#include "sanitizer.h"

#if !defined(__x86_64__)
#define EMULATION_UCONTEXT 1
#endif
#ifdef EMULATION_UCONTEXT
#include <ucontext.h>
#endif

namespace emulation {

static const size_t PAGE = 4096;
#ifdef EMULATION_ASAN
static const size_t STACK = 256 << 10; /* redzones make frames large */
#else
static const size_t STACK = 64 << 10;
#endif

static std::vector<char *> spare_stacks;
static fiber *running;
[[maybe_unused]] static struct {
  void *stack_pointer;
  void *fake_stack, *tsan;
  const void *stack_bottom;
  size_t stack_bytes;
} outside;

static char *stack_get() {
  if (!spare_stacks.empty()) {
    char *stack = spare_stacks.back();
    spare_stacks.pop_back();
    return stack;
  }
  void *pages = mmap(nullptr, PAGE + STACK, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (pages == MAP_FAILED) abort();
  mprotect(pages, PAGE, PROT_NONE); /* an overflow traps */
  return (char *)pages + PAGE;
}

static void arrive_in_fiber(void *fake_stack) {
#ifdef EMULATION_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, &outside.stack_bottom, &outside.stack_bytes);
#else
  (void)fake_stack;
#endif
}

static void entry() {
  arrive_in_fiber(nullptr);
  fiber *self = running;
  self->body(self->argument);
  self->finished = true;
  fiber_suspend();
  abort();
}

#ifdef EMULATION_UCONTEXT
static ucontext_t outside_context;

static void prepare(fiber *f) {
  ucontext_t *context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = f->stack;
  context->uc_stack.ss_size = STACK;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  f->stack_pointer = context;
}

static void switch_in(fiber *f) {
  swapcontext(&outside_context, (ucontext_t *)f->stack_pointer);
}

static void switch_out(fiber *f) {
  swapcontext((ucontext_t *)f->stack_pointer, &outside_context);
}

static void discard(fiber *f) {
  delete (ucontext_t *)f->stack_pointer;
}
#else
extern "C" void emulation_switch(void **save, void *to);
asm(R"(
.text
.type emulation_switch, @function
emulation_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size emulation_switch, . - emulation_switch
)");

/* As if entry had called emulation_switch just before its first instruction. Stacks begin at
 * different cache lines of their last page; otherwise they would all compete for the same few. */
static void prepare(fiber *f) {
  const size_t colour = ((uintptr_t)f->stack / PAGE) % 64 * 64;
  void **top = (void **)(f->stack + STACK - colour);
  *--top = nullptr;
  *--top = (void *)entry;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  f->stack_pointer = top;
}

static void switch_in(fiber *f) {
  emulation_switch(&outside.stack_pointer, f->stack_pointer);
}

static void switch_out(fiber *f) {
  emulation_switch(&f->stack_pointer, outside.stack_pointer);
}

static void discard(fiber *) {}
#endif

void fiber_start(fiber *f, void (*body)(void *), void *argument) {
  f->body = body;
  f->argument = argument;
  f->finished = false;
  f->fake_stack = nullptr;
  if (f->stack == nullptr) f->stack = stack_get();
  allow_access(f->stack, STACK);
  prepare(f);
#ifdef EMULATION_TSAN
  f->tsan = __tsan_create_fiber(0);
#endif
}

void fiber_resume(fiber *f) {
  running = f;
#ifdef EMULATION_TSAN
  outside.tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(f->tsan, 1);
#endif
#ifdef EMULATION_ASAN
  __sanitizer_start_switch_fiber(&outside.fake_stack, f->stack, STACK);
#endif
  switch_in(f);
#ifdef EMULATION_ASAN
  __sanitizer_finish_switch_fiber(outside.fake_stack, nullptr, nullptr);
#endif
  running = nullptr;
}

void fiber_suspend() {
  fiber *self = running;
#ifdef EMULATION_TSAN
  __tsan_switch_to_fiber(outside.tsan, 1);
#endif
#ifdef EMULATION_ASAN
  __sanitizer_start_switch_fiber(self->finished ? nullptr : &self->fake_stack,
                                 outside.stack_bottom, outside.stack_bytes);
#endif
  switch_out(self);
  arrive_in_fiber(self->fake_stack);
}

void fiber_release(fiber *f) {
#ifdef EMULATION_TSAN
  if (f->tsan != nullptr) __tsan_destroy_fiber(f->tsan);
#endif
  if (f->stack_pointer != nullptr) discard(f);
  if (f->stack != nullptr) spare_stacks.push_back(f->stack);
  *f = fiber();
}

} // namespace emulation
