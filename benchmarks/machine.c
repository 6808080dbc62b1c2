#include "machine.h"
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <cumega/version.h>

/* The value of the first line of /proc/cpuinfo that begins with key; "unknown" if there is
 * none. */
static void read_cpu_model(const char *key, char *value, size_t size) {
  char line[512];
  FILE *file = fopen("/proc/cpuinfo", "r");
  snprintf(value, size, "unknown");
  while (file && fgets(line, sizeof line, file)) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, key, strlen(key)) || colon == NULL) continue;
    snprintf(value, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    break;
  }
  if (file) fclose(file);
}

/* "model name" may be the same for two generations of a virtual machine's CPU; family and model
 * differ. */
static void read_cpu(char *text, size_t size) {
  char name[128], family[32], model[32];
  read_cpu_model("model name", name, sizeof name);
  read_cpu_model("cpu family", family, sizeof family);
  read_cpu_model("model\t", model, sizeof model);
  snprintf(text, size, "%s (family %s, model %s)", name, family, model);
}

double machine_seconds_elsewhere(void) {
  struct timespec own;
  long long user = 0, nice = 0, system = 0, idle, waiting, irq = 0, softirq = 0, steal = 0;
  FILE *file = fopen("/proc/stat", "r");
  int read = file ? fscanf(file, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &user, &nice,
                           &system, &idle, &waiting, &irq, &softirq, &steal)
                  : 0;
  if (file) fclose(file);
  if (read != 8) return -1;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  return (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK) -
         (double)own.tv_sec - 1e-9 * (double)own.tv_nsec;
}

int64_t machine_last_cache(void) {
  int64_t largest = 0;
  for (int i = 0; i < 8; i++) {
    char path[80], unit = 0;
    long long size = 0;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
    FILE *file = fopen(path, "r");
    if (file == NULL) break;
    if (fscanf(file, "%lld%c", &size, &unit) == 2)
      size *= unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1;
    if (size > largest) largest = size;
    fclose(file);
  }
  return largest;
}

json_t *machine_describe(const char *commit) {
  char cpu[256], date[32] = "", system[200];
  struct utsname name;
  double load = 0;
  time_t now = time(NULL);
  read_cpu(cpu, sizeof cpu);
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
  if (getloadavg(&load, 1) != 1) load = -1;
  if (uname(&name)) memset(&name, 0, sizeof name);
  snprintf(system, sizeof system, "%s %s %s", name.sysname, name.release, name.machine);
  return json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:f}", "cpu", cpu, "cpus",
                   (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "last_cache_bytes",
                   (json_int_t)machine_last_cache(), "system", system, "compiler",
                   BENCHMARK_COMPILER, "build_type", BENCHMARK_BUILD_TYPE, "cumega",
                   cumega_version_string(), "commit", commit ? commit : "unknown", "date", date,
                   "load", load);
}

static const char *text_of(const json_t *machine, const char *key) {
  const char *text = json_string_value(json_object_get(machine, key));
  return text ? text : "unknown";
}

void machine_print(FILE *out, const json_t *machine) {
  fprintf(out, "%s, %lld CPUs, last cache %.0f MB, %s\n", text_of(machine, "cpu"),
          (long long)json_integer_value(json_object_get(machine, "cpus")),
          1e-6 * (double)json_integer_value(json_object_get(machine, "last_cache_bytes")),
          text_of(machine, "system"));
  if (json_object_get(machine, "gpu"))
    fprintf(out, "%s, L2 cache %.0f MB, driver for CUDA %lld, runtime of CUDA %lld\n",
            text_of(machine, "gpu"),
            1e-6 * (double)json_integer_value(json_object_get(machine, "l2_bytes")),
            (long long)json_integer_value(json_object_get(machine, "driver_cuda")),
            (long long)json_integer_value(json_object_get(machine, "runtime_cuda")));
  fprintf(out, "cumega %s (%s), %s, %s; %s, load %.2f\n", text_of(machine, "cumega"),
          text_of(machine, "commit"), text_of(machine, "compiler"), text_of(machine, "build_type"),
          text_of(machine, "date"), json_real_value(json_object_get(machine, "load")));
}
