/* The position biases' operations on case files. */
#ifndef CUMEGA_TOOLS_CASE_POSITION_BIAS_H
#define CUMEGA_TOOLS_CASE_POSITION_BIAS_H

#include "operation.h"

int relative_position_bias_prepare(job *j);
int rotary_position_bias_prepare(job *j);
cumega_status position_bias_run_forward(job *j);

int attention_softmax_prepare(job *j);
cumega_status attention_softmax_run(job *j);
cumega_status attention_softmax_run_weights(job *j); /* leaves the scores out */
cumega_status attention_softmax_run_scores(job *j);  /* leaves the weights out */

void position_bias_release(job *j);

#endif
