#include "CLiteRT.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef void *handle;

// LiteRtRankedTensorType: element type, layout (rank in 7 bits, then a flag), 8 dimensions, 8 strides.
typedef struct {
    int element_type;
    uint32_t rank_bits;
    int32_t dimensions[8];
    uint32_t strides[8];
} ranked_type;
_Static_assert(sizeof(ranked_type) == 72, "LiteRtRankedTensorType has another layout");

enum { float32_type = 1, cpu_accelerator = 1, lock_read = 0, lock_write = 1 };

#define LITERT_FUNCTIONS(X) \
    X(CreateEnvironment, int, (int, const void *, handle *)) \
    X(DestroyEnvironment, void, (handle)) \
    X(CreateModelFromFile, int, (handle, const char *, handle *)) \
    X(DestroyModel, void, (handle)) \
    X(CreateOptions, int, (handle *)) \
    X(DestroyOptions, void, (handle)) \
    X(SetOptionsHardwareAccelerators, int, (handle, int)) \
    X(CreateCompiledModel, int, (handle, handle, handle, handle *)) \
    X(DestroyCompiledModel, void, (handle)) \
    X(GetModelSignature, int, (handle, size_t, handle *)) \
    X(GetNumSignatureInputs, int, (handle, size_t *)) \
    X(GetNumSignatureOutputs, int, (handle, size_t *)) \
    X(GetSignatureInputName, int, (handle, size_t, const char **)) \
    X(GetSignatureOutputName, int, (handle, size_t, const char **)) \
    X(GetSignatureInputTensorByIndex, int, (handle, size_t, handle *)) \
    X(GetSignatureOutputTensorByIndex, int, (handle, size_t, handle *)) \
    X(GetRankedTensorType, int, (handle, ranked_type *)) \
    X(GetCompiledModelInputBufferRequirements, int, (handle, size_t, size_t, handle *)) \
    X(GetCompiledModelOutputBufferRequirements, int, (handle, size_t, size_t, handle *)) \
    X(CreateManagedTensorBufferFromRequirements, int, (handle, const ranked_type *, handle, handle *)) \
    X(DestroyTensorBuffer, void, (handle)) \
    X(LockTensorBuffer, int, (handle, void **, int)) \
    X(UnlockTensorBuffer, int, (handle)) \
    X(RunCompiledModel, int, (handle, size_t, size_t, handle *, size_t, handle *))

struct litert_engine {
    handle library, environment, model, options, compiled;
    size_t count[2];
    handle *buffers[2];
    const char **names[2];
    ranked_type *types[2];
#define DECLARE(name, result, arguments) result(*name) arguments;
    LITERT_FUNCTIONS(DECLARE)
#undef DECLARE
};

#define CHECK(call) \
    do { \
        status = (call); \
        if (status) return status; \
    } while (0)

static int load(litert_engine *e, const char *library) {
    e->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!e->library) return LITERT_NO_LIBRARY;
#define FIND(name, result, arguments) \
    e->name = (result(*) arguments)dlsym(e->library, "LiteRt" #name); \
    if (!e->name) return LITERT_NO_SYMBOL;
    LITERT_FUNCTIONS(FIND)
#undef FIND
    return 0;
}

static int open_side(litert_engine *e, handle signature, int side) {
    int status;
    CHECK(side ? e->GetNumSignatureOutputs(signature, &e->count[1]) : e->GetNumSignatureInputs(signature, &e->count[0]));
    e->buffers[side] = calloc(e->count[side], sizeof(handle));
    e->names[side] = calloc(e->count[side], sizeof(char *));
    e->types[side] = calloc(e->count[side], sizeof(ranked_type));
    if (!e->buffers[side] || !e->names[side] || !e->types[side]) return LITERT_NO_MEMORY;
    for (size_t i = 0; i < e->count[side]; i++) {
        handle tensor, requirements;
        ranked_type *type = &e->types[side][i];
        CHECK(side ? e->GetSignatureOutputName(signature, i, &e->names[side][i])
                   : e->GetSignatureInputName(signature, i, &e->names[side][i]));
        CHECK(side ? e->GetSignatureOutputTensorByIndex(signature, i, &tensor)
                   : e->GetSignatureInputTensorByIndex(signature, i, &tensor));
        CHECK(e->GetRankedTensorType(tensor, type));
        if (type->element_type != float32_type) return LITERT_NOT_FLOAT32;
        CHECK(side ? e->GetCompiledModelOutputBufferRequirements(e->compiled, 0, i, &requirements)
                   : e->GetCompiledModelInputBufferRequirements(e->compiled, 0, i, &requirements));
        CHECK(e->CreateManagedTensorBufferFromRequirements(e->environment, type, requirements, &e->buffers[side][i]));
    }
    return 0;
}

static int open_model(litert_engine *e, const char *library, const char *model) {
    int status;
    handle signature;
    CHECK(load(e, library));
    CHECK(e->CreateEnvironment(0, NULL, &e->environment));
    CHECK(e->CreateModelFromFile(e->environment, model, &e->model));
    CHECK(e->CreateOptions(&e->options));
    CHECK(e->SetOptionsHardwareAccelerators(e->options, cpu_accelerator));
    CHECK(e->CreateCompiledModel(e->environment, e->model, e->options, &e->compiled));
    CHECK(e->GetModelSignature(e->model, 0, &signature));
    CHECK(open_side(e, signature, 0));
    return open_side(e, signature, 1);
}

litert_engine *litert_open(const char *library, const char *model, int *status) {
    litert_engine *e = calloc(1, sizeof *e);
    *status = e ? open_model(e, library, model) : LITERT_NO_MEMORY;
    if (*status == 0) return e;
    litert_close(e);
    return NULL;
}

void litert_close(litert_engine *e) {
    if (!e) return;
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; e->buffers[side] && i < e->count[side]; i++)
            if (e->buffers[side][i]) e->DestroyTensorBuffer(e->buffers[side][i]);
        free(e->buffers[side]);
        free(e->names[side]);
        free(e->types[side]);
    }
    if (e->compiled) e->DestroyCompiledModel(e->compiled);
    if (e->options) e->DestroyOptions(e->options);
    if (e->model) e->DestroyModel(e->model);
    if (e->environment) e->DestroyEnvironment(e->environment);
    // The library stays open: it keeps threads and is not made to be unloaded.
    free(e);
}

size_t litert_count(const litert_engine *e, int side) { return e->count[side]; }

const char *litert_name(const litert_engine *e, int side, size_t index) { return e->names[side][index]; }

int litert_rank(const litert_engine *e, int side, size_t index) { return (int)(e->types[side][index].rank_bits & 0x7f); }

int32_t litert_dimension(const litert_engine *e, int side, size_t index, int axis) {
    return e->types[side][index].dimensions[axis];
}

int litert_write(litert_engine *e, size_t input, const float *values, size_t count) {
    void *target;
    int status;
    CHECK(e->LockTensorBuffer(e->buffers[0][input], &target, lock_write));
    memcpy(target, values, count * sizeof(float));
    return e->UnlockTensorBuffer(e->buffers[0][input]);
}

int litert_run(litert_engine *e) {
    return e->RunCompiledModel(e->compiled, 0, e->count[0], e->buffers[0], e->count[1], e->buffers[1]);
}

int litert_read(litert_engine *e, size_t output, float *values, size_t count) {
    void *source;
    int status;
    CHECK(e->LockTensorBuffer(e->buffers[1][output], &source, lock_read));
    memcpy(values, source, count * sizeof(float));
    return e->UnlockTensorBuffer(e->buffers[1][output]);
}
