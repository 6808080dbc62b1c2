/* A case file in memory: one call of one operation (docs/case-files.md). */
#ifndef CUMEGA_TOOLS_CASE_H
#define CUMEGA_TOOLS_CASE_H

#include <jansson.h>
#include <cumega/weights.h>

typedef struct case_tensor {
  const char *name;     /* "inputs.x"; lives as long as the file that it came from, or is */
  char made[48];        /* this, where the case was made in memory */
  cumega_tensor tensor; /* CPU memory of its own, which it fills; compact where it is a file's */
} case_tensor;

typedef struct case_file {
  const char *path;
  char *name; /* the path's last part, without ".safetensors" */
  const char *operation;
  cumega_weights *weights; /* NULL in a widened case, and in one that was made in memory */
  json_t *config;
  json_t *tolerance; /* an object; empty where the file has none */
  case_tensor *tensors;
  int64_t tensor_count;
} case_file;

/* What a dimension should be: its size, or any size (negative) under a letter for the sentence. */
typedef struct case_dimension {
  int64_t size;
  const char *letter;
} case_dimension;

/* Reads metadata, parameters.* and inputs.*; with_answers: outputs.* and exact.* too. host is a
 * CPU context and must outlive the case. All that return int return 0, or an exit code after a
 * sentence that names the file. case_close is allowed after a failure and on a zeroed struct. */
int case_open(cumega_context *host, const char *path, int with_answers, case_file *file);
void case_close(case_file *file);

/* The same case with every floating parameter and input in float64 and, where setting is not NULL,
 * that setting of the configuration "float64". It borrows names from source. */
int case_widen(const case_file *source, const char *setting, case_file *wide);

/* The tensor <group>.<name>: NULL, or a sentence, where there is none. */
DLTensor *case_find(const case_file *file, const char *group, const char *name);
int case_need(const case_file *file, const char *group, const char *name, DLTensor **tensor);

/* Whether a tensor of the case has the shape that its operation expects. */
int case_expect_shape(const case_file *file, const char *name, const DLTensor *tensor, int ndim,
                      const case_dimension *expected);

#endif
