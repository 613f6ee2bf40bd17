package hearpack.core.audio

import java.util.concurrent.atomic.AtomicLong

/**
 * Samples from one thread to another: one producer, one consumer, no lock, no allocation.
 *
 * Each side owns one index and reads the other's; an index is published after the samples it covers. What does not
 * fit is not taken: the producer gets the number taken and counts the loss.
 *
 * @param atLeast samples it must hold; rounded up to a power of two.
 */
class RingBuffer(
    atLeast: Int,
) {
    val capacity: Int = maxOf(2, Integer.highestOneBit(maxOf(1, atLeast - 1)) shl 1)
    private val mask = capacity - 1
    private val data = FloatArray(capacity)
    private val written = AtomicLong()
    private val consumed = AtomicLong()

    // Each side's last look at the other's index: most calls need no shared read.
    private var producerSawConsumed = 0L
    private var consumerSawWritten = 0L

    /** Samples that can be read; exact on the consumer's thread. */
    val available: Int get() = (written.get() - consumed.get()).toInt()

    /** Producer: takes the first samples of [source] that fit. Returns how many. */
    fun write(
        source: FloatArray,
        offset: Int,
        count: Int,
    ): Int {
        val begin = written.get()
        if (capacity - (begin - producerSawConsumed) < count) producerSawConsumed = consumed.get()
        val n = minOf(count.toLong(), capacity - (begin - producerSawConsumed)).toInt()
        val at = (begin and mask.toLong()).toInt()
        val first = minOf(n, capacity - at)
        System.arraycopy(source, offset, data, at, first)
        System.arraycopy(source, offset + first, data, 0, n - first)
        written.lazySet(begin + n)
        return n
    }

    /** Consumer: moves up to [count] samples into [target]. Returns how many. */
    fun read(
        target: FloatArray,
        offset: Int,
        count: Int,
    ): Int {
        val begin = consumed.get()
        if (consumerSawWritten - begin < count) consumerSawWritten = written.get()
        val n = minOf(count.toLong(), consumerSawWritten - begin).toInt()
        val at = (begin and mask.toLong()).toInt()
        val first = minOf(n, capacity - at)
        System.arraycopy(data, at, target, offset, first)
        System.arraycopy(data, 0, target, offset + first, n - first)
        consumed.lazySet(begin + n)
        return n
    }

    /** Consumer: drops up to [count] of the oldest samples. Returns how many. */
    fun discard(count: Int): Int {
        val n = minOf(count, available)
        consumed.lazySet(consumed.get() + n)
        return n
    }
}
