/* What went wrong, in sentences: collected for emulation_faults. */
#ifndef EMULATION_FAULT_H
#define EMULATION_FAULT_H

namespace emulation {

/* Adds a line; one from within a kernel begins with kernel, block and thread. */
void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

void faults_reset();

} // namespace emulation

#endif
