/* What the emulated libraries have made and not released, one line each; and which of their
 * functions emulation_hide has hidden. */
#ifndef EMULATION_LIBRARY_H
#define EMULATION_LIBRARY_H

#include <string>

namespace emulation {

long cublas_leaks(std::string *text);
long cufft_leaks(std::string *text);
bool is_hidden(const char *function);

} // namespace emulation

#endif
