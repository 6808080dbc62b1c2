/* The CPU backend's table of functions at one level. */
#include "../backend.h"
#include "ema_cpu.h"
#include "attention_cpu.h"
#include "residual_cpu.h"

#define TEXT_EXPANDED(level) #level
#define TEXT(level)          TEXT_EXPANDED(level)

#if defined(__x86_64__)
#define BACKEND_NAME "cpu-x86-64-" TEXT(CPU_LEVEL)
#elif defined(__aarch64__)
#define BACKEND_NAME "cpu-aarch64"
#else
#define BACKEND_NAME "cpu"
#endif

const backend LEVEL(backend_cpu) = {
    .name = BACKEND_NAME,
    .ema = {.kernel_row = LEVEL(ema_kernel_row_cpu),
            .workspace = LEVEL(ema_workspace_cpu),
            .forward = LEVEL(ema_forward_cpu)},
    .position_bias = {.rotary_table = LEVEL(rotary_table_cpu),
                      .forward = LEVEL(position_bias_forward_cpu)},
    .attention = {.scores_workspace = LEVEL(attention_scores_workspace_cpu),
                  .scores = LEVEL(attention_scores_cpu)},
    .residual = {.workspace = LEVEL(residual_workspace_cpu),
                 .forward = LEVEL(residual_forward_cpu)},
};
