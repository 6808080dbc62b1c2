/* Harmful case files: damaged ones, and configurations that no operation accepts. */
#include <stdio.h>
#include <stdlib.h>
#include "damage.h"

static damage_count n;

#define ONE(name, shape, begin, end)                                                              \
  "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"
#define PARAMETERS                                                                                \
  ONE("parameters.damping_factor", "[1,1,1]", 0, 4)                                               \
  "," ONE("parameters.decay_factor", "[1,1,1]", 4,                                                \
          8) "," ONE("parameters.ema_expansion_matrix", "[1,1,1]", 8,                             \
                     12) "," ONE("parameters.kernel_projection_matrix", "[1,1]", 12,              \
                                 16) "," ONE("parameters.residual_weight", "[1]", 16, 20)
#define INPUT ONE("inputs.x", "[2,1,1]", 20, 28)

/* A case of one channel, one head and two steps, with this operation, configuration and rest. */
static uint8_t *make_case(const char *operation, const char *config, const char *rest,
                          size_t *count) {
  char header[4096];
  int length = snprintf(header, sizeof header,
                        "{\"__metadata__\":{\"cumega.case\":\"1\",\"cumega.op\":\"%s\","
                        "\"cumega.config\":\"%s\"}," PARAMETERS "%s}",
                        operation, config, rest);
  MUST(length < (int)sizeof header, "the header is too long");
  return make_file(header, (size_t)length, strstr(rest, "inputs.x") != NULL ? 28 : 20, count);
}

static const struct {
  const char *operation, *config, *sentence; /* NULL: it runs */
} configs[] = {
    {"ema_forward", "{'size':1,'num_heads':1}", NULL},
    {"ema_step", "{'size':1,'num_heads':1}", NULL},
    {"ema_kernel", "{'size':1,'num_heads':1,'length':5}", "'inputs.x' is not an input"},
    {"ema", "{'size':1,'num_heads':1}", "'cumega.op' is 'ema', expected one of"},
    {"", "{'size':1,'num_heads':1}", "'cumega.op' is ''"},
    {"ema_forward", "", "'cumega.config' is not JSON"},
    {"ema_forward", "[]", "expected a JSON object"},
    {"ema_forward", "null", "expected a JSON object"},
    {"ema_forward", "1", "expected a JSON object"},
    {"ema_forward", "{", "'cumega.config' is not JSON"},
    {"ema_forward", "{}", "setting 'size' is missing"},
    {"ema_forward", "{'size':1}", "setting 'num_heads' is missing"},
    {"ema_forward", "{'size':1,'size':1,'num_heads':1}", "duplicate"},
    {"ema_forward", "{'size':'1','num_heads':1}", "expected an integer"},
    {"ema_forward", "{'size':1.0,'num_heads':1}", "setting 'size' is 1.0"},
    {"ema_forward", "{'size':1e0,'num_heads':1}", "expected an integer"},
    {"ema_forward", "{'size':null,'num_heads':1}", "expected an integer"},
    {"ema_forward", "{'size':[1],'num_heads':1}", "expected an integer"},
    {"ema_forward", "{'size':0,'num_heads':1}", "config.size is 0"},
    {"ema_forward", "{'size':-1,'num_heads':1}", "config.size is -1"},
    {"ema_forward", "{'size':9223372036854775807,'num_heads':1}", "9223372036854775807"},
    {"ema_forward", "{'size':9223372036854775808,'num_heads':1}", "too big integer"},
    {"ema_forward", "{'size':4611686018427387904,'num_heads':4096}",
     "cannot allocate more than 9223372036854775807 bytes for an EMA"},
    /* each of its two pieces of memory would fit in 63 bits */
    {"ema_forward", "{'size':144115188075855872,'num_heads':1,'state_dtype':'float64'}",
     "cannot allocate more than 9223372036854775807 bytes for an EMA"},
    {"ema_forward", "{'size':1,'num_heads':4097}", "config.num_heads is 4097"},
    {"ema_forward", "{'size':2,'num_heads':1}", "damping_factor"},
    {"ema_forward", "{'size':1,'num_heads':1,'x':1}", "setting 'x' is not known"},
    {"ema_forward", "{'size':1,'num_heads':1,'length':1}", "setting 'length' is not known"},
    {"ema_forward", "{'size':1,'num_heads':1,'activation':'x'}", "'activation'"},
    {"ema_forward", "{'size':1,'num_heads':1,'activation':1}", "expected one of identity"},
    {"ema_forward", "{'size':1,'num_heads':1,'activation_args':1}", "expected an object"},
    {"ema_forward", "{'size':1,'num_heads':1,'activation_args':{'x':1}}", "activation_args.x"},
    {"ema_forward", "{'size':1,'num_heads':1,'activation_args':{'swish_beta':'1'}}", "a number"},
    {"ema_forward",
     "{'size':1,'num_heads':1,'activation':'swish','activation_args':{'swish_beta':1e999}}",
     "overflow"},
    {"ema_forward", "{'size':1,'num_heads':1,'state_dtype':'float16'}", "'state_dtype'"},
    {"ema_forward", "{'size':1,'num_heads':1,'truncation_length':0}", "truncation_length is 0"},
    {"ema_forward", "{'size':1,'num_heads':1,'truncation_length':-9223372036854775808}",
     "truncation_length"},
    {"ema_forward", "{'size':1,'num_heads':1,'truncation_length':1}", NULL},
    {"ema_forward", "{'size':1,'num_heads':1,'truncation_length':true}", "an integer or null"},
};

/* Quotes as they appear inside a JSON string. */
static void judge_config(const char *operation, const char *config, const char *rest,
                         const char *sentence) {
  char quoted[2048];
  size_t used = 0, count;
  for (const char *c = config; *c != '\0'; c++) {
    if (*c == '\'') quoted[used++] = '\\';
    quoted[used++] = *c == '\'' ? '"' : *c;
  }
  quoted[used] = '\0';
  uint8_t *file = make_case(operation, quoted, rest, &count);
  judge_file(&n, file, count, sentence);
  free(file);
}

int main(void) {
  size_t count;
  for (size_t i = 0; i < sizeof configs / sizeof *configs; i++)
    judge_config(configs[i].operation, configs[i].config, "," INPUT, configs[i].sentence);
  judge_config("ema_kernel", "{'size':1,'num_heads':1,'length':5}", "", NULL);
  judge_config("ema_kernel", "{'size':1,'num_heads':1}", "", "setting 'length' is missing");
  judge_config("ema_kernel", "{'size':1,'num_heads':1,'length':-1}", "", "'length' is -1");
  judge_config("ema_kernel", "{'size':1,'num_heads':1,'length':9223372036854775807}", "",
               "no memory for tensor 'outputs.kernel'");
  judge_config("ema_forward", "{'size':1,'num_heads':1}", "", "'inputs.x' is missing");
  uint8_t *file =
      make_case("ema_forward", "{\\\"size\\\":1,\\\"num_heads\\\":1}", "," INPUT, &count);
  judge_damage(&n, file, count, count - 28, 0);
  free(file);
  file =
      make_case("ema_kernel", "{\\\"size\\\":1,\\\"num_heads\\\":1,\\\"length\\\":3}", "", &count);
  judge_damage(&n, file, count, count - 20, 0);
  free(file);
  printf("%ld case files: %ld refused, %ld run\n", n.refused + n.accepted, n.refused, n.accepted);
  return EXIT_SUCCESS;
}
