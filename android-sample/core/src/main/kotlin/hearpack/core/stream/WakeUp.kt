package hearpack.core.stream

import hearpack.core.trace.Arrival
import java.util.concurrent.locks.LockSupport

private const val MOST_A_SECOND = 150

/**
 * Wakes the inference thread when what it waits for was captured: no lock, no allocation, and no more than
 * 150 times a second, however small the blocks and hops are.
 */
internal class WakeUp {
    @Volatile private var sleeper: Thread? = null

    /** Samples that must have come before the inference thread goes on. */
    @Volatile var wanted = Long.MAX_VALUE
        private set

    /** Inference thread: there are [arrived] samples, the next call needs [missing] more and each later one a hop. */
    fun want(
        arrived: Long,
        missing: Int,
        hop: Int,
        rateHz: Int,
    ) {
        val more = (rateHz / MOST_A_SECOND - 1) / hop // hops that come with it, where they are that short
        wanted = arrived + missing + more * hop
    }

    /** Inference thread: waits until [came] says that it is there, or for so long. */
    fun await(
        millis: Long,
        arrival: Arrival?,
    ) {
        sleeper = Thread.currentThread()
        if (arrival == null || arrival.samples < wanted) LockSupport.parkNanos(this, millis * 1_000_000)
        wanted = Long.MAX_VALUE
    }

    /** Capture thread: so many samples have come. */
    fun came(arrived: Long) {
        if (arrived < wanted) return
        wanted = Long.MAX_VALUE
        LockSupport.unpark(sleeper)
    }

    /** Any thread: do not wait any longer. */
    fun now() = LockSupport.unpark(sleeper)
}
