/* A case file in memory: one call of one operation (docs/case-files.md). */
#ifndef CUMEGA_TOOLS_CASE_H
#define CUMEGA_TOOLS_CASE_H

#include <jansson.h>
#include <cumega/weights.h>

typedef struct case_tensor {
  const char *name;     /* "inputs.x": in the file's memory, or in */
  char made[48];        /* this, if the case was made in memory */
  cumega_tensor tensor; /* in its own CPU memory, which it fills; from a file, compact */
} case_tensor;

typedef struct case_file {
  const char *path;
  char *name; /* the last part of the path, without ".safetensors" */
  const char *operation;
  cumega_weights *weights; /* NULL if the case was widened or made in memory */
  json_t *config;
  json_t *tolerance; /* an object; empty if the file has none */
  case_tensor *tensors;
  int64_t tensor_count;
} case_file;

/* The expected size of a dimension. If it is negative, any size is right, and messages use the
 * letter. */
typedef struct case_dimension {
  int64_t size;
  const char *letter;
} case_dimension;

/* Reads metadata, parameters.* and inputs.*, and with_answers also outputs.* and exact.*. host is
 * a CPU context and must outlive the case. Functions that return int return 0, or an exit code
 * after a message that names the file. case_close is allowed after a failure and on a zeroed
 * struct. */
int case_open(cumega_context *host, const char *path, int with_answers, case_file *file);
void case_close(case_file *file);

/* Makes the same case with all floating parameters and inputs in float64. If setting is not NULL,
 * that setting of the configuration becomes "float64". The case uses names of source, which must
 * outlive it. */
int case_widen(const case_file *source, const char *setting, case_file *wide);

/* The tensor <group>.<name>. If there is none, case_find returns NULL, and case_need an exit code
 * after a message. */
DLTensor *case_find(const case_file *file, const char *group, const char *name);
int case_need(const case_file *file, const char *group, const char *name, DLTensor **tensor);

/* Whether a tensor of the case has the shape that its operation expects. */
int case_expect_shape(const case_file *file, const char *name, const DLTensor *tensor, int ndim,
                      const case_dimension *expected);

#endif
