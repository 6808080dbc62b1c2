#include "device.h"
#include <stdio.h>

static const char none[] = "this build of the program has no CUDA, and cannot time a GPU";

device *device_open(const device_options *options, char *why, size_t size) {
  (void)options;
  snprintf(why, size, "%s", none);
  return NULL;
}

void device_close(device *d) {
  (void)d;
}

void *device_stream(device *d) {
  return d;
}

stopwatch device_stopwatch(device *d) {
  (void)d;
  return stopwatch_steady();
}

measured device_copy(device *d) {
  return (measured){NULL, d};
}

const char *device_message(const device *d) {
  (void)d;
  return none;
}

json_t *device_describe(int index) {
  (void)index;
  return NULL;
}
