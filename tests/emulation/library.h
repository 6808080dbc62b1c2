/* What the emulated libraries have made and not given back: one line for each. */
#ifndef EMULATION_LIBRARY_H
#define EMULATION_LIBRARY_H

#include <string>

namespace emulation {

long cublas_leaks(std::string *text);
long cufft_leaks(std::string *text);

} // namespace emulation

#endif
