/* Only the primitives of CUDA's pipelines. */
#ifndef EMULATION_CUDA_PIPELINE_H
#define EMULATION_CUDA_PIPELINE_H

#include "cuda_pipeline_primitives.h"

#endif
