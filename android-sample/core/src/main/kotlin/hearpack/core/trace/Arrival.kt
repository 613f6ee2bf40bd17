package hearpack.core.trace

private const val REMEMBERED = 2048 // reads: what waits at most came in fewer

/** How much the capture thread has put into the ring of a route, and when. */
class Arrival(
    val rateHz: Int,
) {
    private val ends = LongArray(REMEMBERED)
    private val times = LongArray(REMEMBERED)
    private var reads = 0

    @Volatile private var published = 0

    @Volatile var samples = 0L
        private set

    private var lost = 0L

    /** How they come. */
    val meter = ArrivalMeter(rateHz)

    /** Inference thread: samples of it that no call will see. */
    fun dropped(count: Int) {
        lost += count
    }

    /** Inference thread: what has come and was not dropped. */
    val kept: Long get() = samples - lost

    /** Capture thread: [count] samples came into the ring. */
    fun came(
        timeNs: Long,
        count: Int,
    ) {
        val slot = reads++ and (REMEMBERED - 1)
        ends[slot] = samples + count
        times[slot] = timeNs
        published = reads
        samples += count
        meter.came(timeNs, count)
    }

    /** Inference thread: when the sample before [end] came, counted without those that were dropped. */
    fun whenCame(end: Long): Long {
        val place = end + lost
        var read = published - 1
        val oldest = maxOf(0, read - REMEMBERED / 2)
        while (read > oldest && ends[slot(read - 1)] >= place) read--
        return times[slot(maxOf(0, read))]
    }

    private fun slot(read: Int) = read and (REMEMBERED - 1)
}
