/* The version of cumega, and the attributes that every public function carries. */
#ifndef CUMEGA_VERSION_H
#define CUMEGA_VERSION_H

#define CUMEGA_VERSION_MAJOR 0
#define CUMEGA_VERSION_MINOR 1
#define CUMEGA_VERSION_PATCH 0
#define CUMEGA_VERSION_NUMBER                                                                     \
  (CUMEGA_VERSION_MAJOR * 10000 + CUMEGA_VERSION_MINOR * 100 + CUMEGA_VERSION_PATCH)

#if defined(__GNUC__)
#define CUMEGA_API          __attribute__((visibility("default")))
#define CUMEGA_CHECK_RESULT __attribute__((warn_unused_result))
#else
#define CUMEGA_API
#define CUMEGA_CHECK_RESULT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library that is running, as CUMEGA_VERSION_NUMBER has it for the headers. */
CUMEGA_API int cumega_version_number(void);

/* The same as text, "0.1.0". The string lives as long as the program. */
CUMEGA_API const char *cumega_version_string(void);

#ifdef __cplusplus
}
#endif
#endif
