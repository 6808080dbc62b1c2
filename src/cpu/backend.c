/* The CPU backend's table at one level. */
#include "../backend.h"
#include "ema_cpu.h"
#include "position_bias_cpu.h"
#include "residual_cpu.h"

#define NAME_EXPANDED(level) #level
#define NAME(level)          NAME_EXPANDED(level)

#if defined(__x86_64__)
#define BACKEND_NAME "cpu-x86-64-" NAME(CPU_LEVEL)
#elif defined(__aarch64__)
#define BACKEND_NAME "cpu-aarch64"
#else
#define BACKEND_NAME "cpu"
#endif

const backend LEVEL(backend_cpu) = {
    .name = BACKEND_NAME,
    .ema_kernel_row = LEVEL(ema_kernel_row_cpu),
    .ema_workspace = LEVEL(ema_workspace_cpu),
    .ema_forward = LEVEL(ema_forward_cpu),
    .rotary_table = LEVEL(rotary_table_cpu),
    .position_bias_workspace = LEVEL(position_bias_workspace_cpu),
    .position_bias_rows = LEVEL(position_bias_rows_cpu),
    .position_bias_forward = LEVEL(position_bias_forward_cpu),
    .residual_workspace = LEVEL(residual_workspace_cpu),
    .residual_forward = LEVEL(residual_forward_cpu),
};
