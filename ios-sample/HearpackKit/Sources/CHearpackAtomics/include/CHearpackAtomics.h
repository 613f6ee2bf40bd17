// Four atomic operations for the rings: Swift's own Synchronization module needs iOS 18.
#ifndef CHEARPACK_ATOMICS_H
#define CHEARPACK_ATOMICS_H

#include <stdint.h>

typedef struct {
    int64_t value;
    char padding[120];  // a cache line of its own (128 bytes on Apple silicon): writer and reader never share one
} hearpack_counter;

int64_t hearpack_load_acquire(const hearpack_counter *counter);
int64_t hearpack_load_relaxed(const hearpack_counter *counter);
void hearpack_store_release(hearpack_counter *counter, int64_t value);
void hearpack_add_relaxed(hearpack_counter *counter, int64_t value);

#endif
