// Counts heap allocations of the calling thread in this process, by standing in front of glibc's own. Linux only.
#ifndef CMALLOCCOUNT_H
#define CMALLOCCOUNT_H

#include <stdint.h>

// Allocations of this thread since it began; -1 where they cannot be counted.
int64_t malloc_count(void);

#endif
