#include <cumega/ema.h>
#include <cumega/position_bias.h>
#include <cumega/residual.h>
#include "setting.h"

const char *word_of_activation(int value) {
  return cumega_activation_name((cumega_activation)value);
}

const char *word_of_kind(int value) {
  return cumega_residual_kind_name((cumega_residual_kind)value);
}

const char *word_of_norm(int value) {
  return cumega_norm_type_name((cumega_norm_type)value);
}

const char *word_of_algorithm(int value) {
  return cumega_ema_algorithm_name((cumega_ema_algorithm)value);
}

const char *word_of_bias(int value) {
  return value == BIAS_NONE ? "none"
                            : cumega_position_bias_kind_name((cumega_position_bias_kind)value);
}

int find_activation(const char *text, int *value) {
  cumega_activation activation;
  if (!cumega_activation_from_name(text, &activation)) return 0;
  *value = (int)activation;
  return 1;
}

int find_kind(const char *text, int *value) {
  cumega_residual_kind kind;
  if (!cumega_residual_kind_from_name(text, &kind)) return 0;
  *value = (int)kind;
  return 1;
}
