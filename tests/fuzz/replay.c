/* Runs a fuzz target on files, without a fuzzer: each argument is a file or a folder of files.
 * For CI, which replays a corpus and every past finding, and for looking at one finding in a
 * debugger.
 *
 * Memory is capped, except under AddressSanitizer, which needs terabytes of address space. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "fuzz.h"

#define MEMORY_CAP (INT64_C(1) << 30)
#define PATH_BYTES 4096

#if defined(__SANITIZE_ADDRESS__)
#define CAPPED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAPPED 0
#endif
#endif
#ifndef CAPPED
#define CAPPED 1
#endif

static long replayed;
static const char *now; /* the file that is being run, for the log of a crash */

static void replay_file(const char *path, int64_t size) {
  uint8_t *bytes = malloc(size > 0 ? (size_t)size : 1);
  FILE *file = fopen(path, "rb");
  MUST(bytes != NULL && file != NULL, "%s cannot be opened", path);
  MUST(fread(bytes, 1, (size_t)size, file) == (size_t)size, "%s cannot be read", path);
  fclose(file);
  now = path;
  LLVMFuzzerTestOneInput(bytes, (size_t)size);
  free(bytes);
  replayed++;
}

static void replay(const char *path) {
  struct stat info;
  MUST(stat(path, &info) == 0, "%s is not there", path);
  if (!S_ISDIR(info.st_mode)) {
    replay_file(path, info.st_size);
    return;
  }
  struct dirent **names;
  int count = scandir(path, &names, NULL, alphasort);
  MUST(count >= 0, "%s cannot be listed", path);
  for (int i = 0; i < count; i++) {
    char below[PATH_BYTES];
    MUST(snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name) < PATH_BYTES, "too long");
    if (names[i]->d_name[0] != '.') replay(below);
    free(names[i]);
  }
  free(names);
}

static void say_where(void) {
  if (now != NULL) fprintf(stderr, "while replaying %s\n", now);
}

int main(int count, char **arguments) {
  atexit(say_where);
  if (CAPPED) {
    struct rlimit cap = {MEMORY_CAP, MEMORY_CAP};
    MUST(setrlimit(RLIMIT_AS, &cap) == 0, "memory cannot be capped");
  }
  for (int i = 1; i < count; i++) replay(arguments[i]);
  now = NULL;
  printf("%ld inputs replayed\n", replayed);
  return replayed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
