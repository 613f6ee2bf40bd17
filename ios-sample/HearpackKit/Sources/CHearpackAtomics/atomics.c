#include "CHearpackAtomics.h"

int64_t hearpack_load_acquire(const hearpack_counter *counter) {
    return __atomic_load_n(&counter->value, __ATOMIC_ACQUIRE);
}

int64_t hearpack_load_relaxed(const hearpack_counter *counter) {
    return __atomic_load_n(&counter->value, __ATOMIC_RELAXED);
}

void hearpack_store_release(hearpack_counter *counter, int64_t value) {
    __atomic_store_n(&counter->value, value, __ATOMIC_RELEASE);
}

void hearpack_add_relaxed(hearpack_counter *counter, int64_t value) {
    __atomic_fetch_add(&counter->value, value, __ATOMIC_RELAXED);
}
