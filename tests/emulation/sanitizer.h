/* What AddressSanitizer and ThreadSanitizer have to be told, if the build has them. */
#ifndef EMULATION_SANITIZER_H
#define EMULATION_SANITIZER_H

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATION_ASAN 1
#endif
#endif

#if defined(__SANITIZE_THREAD__)
#define EMULATION_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMULATION_TSAN 1
#endif
#endif

extern "C" {
#ifdef EMULATION_ASAN
void __asan_poison_memory_region(void const volatile *address, size_t bytes);
void __asan_unpoison_memory_region(void const volatile *address, size_t bytes);
void __asan_set_error_report_callback(void (*callback)(const char *));
void *__asan_get_report_address(void);
void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom, size_t *bytes);
#endif
#ifdef EMULATION_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#endif
}

namespace emulation {

static inline void forbid_access(const void *address, size_t bytes) {
#ifdef EMULATION_ASAN
  __asan_poison_memory_region(address, bytes);
#else
  (void)address;
  (void)bytes;
#endif
}

static inline void allow_access(const void *address, size_t bytes) {
#ifdef EMULATION_ASAN
  __asan_unpoison_memory_region(address, bytes);
#else
  (void)address;
  (void)bytes;
#endif
}

/* Writes before a release are visible after the acquire that follows it. */
static inline void sync_release(void *object) {
#ifdef EMULATION_TSAN
  __tsan_release(object);
#else
  (void)object;
#endif
}

static inline void sync_acquire(void *object) {
#ifdef EMULATION_TSAN
  __tsan_acquire(object);
#else
  (void)object;
#endif
}

} // namespace emulation

#endif
