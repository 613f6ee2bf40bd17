// LiteRT's CompiledModel on the CPU, through the C API of a libLiteRt that is opened at run time. float32 tensors only.
#ifndef CLITERT_H
#define CLITERT_H

#include <stddef.h>
#include <stdint.h>

typedef struct litert_engine litert_engine;

// What went wrong: a LiteRtStatus above 0, or one of these.
enum { LITERT_NO_LIBRARY = -1, LITERT_NO_SYMBOL = -2, LITERT_NOT_FLOAT32 = -3, LITERT_NO_MEMORY = -4 };

// NULL on failure, with *status set. Opens the model's first signature.
litert_engine *litert_open(const char *library, const char *model, int *status);
void litert_close(litert_engine *engine);

// side: 0 for inputs, 1 for outputs. Names are those of the signature and live as long as the engine.
size_t litert_count(const litert_engine *engine, int side);
const char *litert_name(const litert_engine *engine, int side, size_t index);
int litert_rank(const litert_engine *engine, int side, size_t index);
int32_t litert_dimension(const litert_engine *engine, int side, size_t index, int axis);

// 0, or a LiteRtStatus.
int litert_write(litert_engine *engine, size_t input, const float *values, size_t count);
int litert_run(litert_engine *engine);
int litert_read(litert_engine *engine, size_t output, float *values, size_t count);

#endif
