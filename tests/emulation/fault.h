/* What went wrong, as sentences, collected for emulation_faults. */
#ifndef EMULATION_FAULT_H
#define EMULATION_FAULT_H

namespace emulation {

/* Adds a line; a line from inside a kernel begins with the kernel, block and thread. */
void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

void faults_reset();

} // namespace emulation

#endif
