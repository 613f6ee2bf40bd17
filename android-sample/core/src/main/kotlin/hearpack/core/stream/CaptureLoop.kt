package hearpack.core.stream

import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureFault
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.RingBuffer
import hearpack.core.trace.GapDetector
import hearpack.core.trace.GapKind
import hearpack.core.trace.RouteChange
import hearpack.core.trace.SortedWindow
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.atomic.AtomicBoolean

private const val RING_SECONDS = 8 // the inference thread drops what waits beyond its limit
private const val REOPEN_TRIES = 20
private const val REOPEN_WAIT_MS = 250L

/**
 * The capture thread: reads a block, stamps it, puts it into the ring of its route; no lock and no allocation while a
 * route lasts. A change of route opens the microphone again.
 */
internal class CaptureLoop(
    private val source: CaptureSource,
    private val clock: Clock,
    private val trace: TraceRecorder,
    private val listener: SessionListener,
    private val sleeper: Sleeper,
    private val running: AtomicBoolean,
    private val wakeUp: WakeUp,
) {
    /** What capture does while a route lasts. */
    private class Route(
        val segment: Segment,
    ) {
        val rateHz = segment.rateHz
        val block = FloatArray(maxOf(1, segment.opened.granted.blockFrames))
        val gaps = GapDetector(rateHz, maxOf(block.size * 4, rateHz / 20))
        var read = 0L
    }

    private val stamp = LongArray(2)
    private var route: Route? = null
    private var reason: String? = null

    /** The first stretch of one rate; each knows the next, so that none goes by unseen. */
    @Volatile var first: Segment? = null
        private set

    /** The last one opened. */
    @Volatile var segment: Segment? = null
        private set

    private val latencies = SortedWindow(512)

    /** From a block's being captured to its being read, by the hardware's time; 0 where it is not known. */
    @Volatile var routeP50Nanos = 0L
        private set

    @Volatile var routeP95Nanos = 0L
        private set

    @Volatile var ringOverruns = 0L
        private set

    @Volatile var captureGaps = 0L
        private set

    val silenced: Boolean get() = source.silenced

    /** Runs until the stream is stopped. */
    fun run() {
        try {
            while (running.get()) step()
        } finally {
            close()
        }
    }

    /** Opens the microphone, or reads a block of it. */
    fun step() {
        val route = route
        if (route == null) {
            open()
            return
        }
        val code = read(route)
        if (code == CaptureSource.FAILED) {
            throw CaptureException(CaptureFault.UNAVAILABLE, "the microphone stopped delivering")
        }
        if (code < 0) {
            source.close()
            this.route = null
            reason = "route changed"
        }
    }

    /** Nothing more comes. */
    fun close() {
        segment?.ended = true
        source.close()
        wakeUp.now()
    }

    private fun open() {
        val opened = if (reason == null) source.open() else reopen()
        val ring = RingBuffer(RING_SECONDS * opened.granted.rateHz)
        val now = clock.nanos()
        val g = opened.granted
        trace.route(RouteChange(now, opened.port, opened.output.port, g.rateHz, g.channels, reason))
        trace.cold { it.copy(captureBeginNs = it.captureBeginNs ?: now) }
        val before = segment
        val next = Segment(opened, ring)
        segment = next
        if (before == null) first = next else before.next = next
        before?.ended = true
        wakeUp.now()
        listener.onOpened(opened)
        route = Route(next)
    }

    /** A new device may need a moment to appear. */
    private fun reopen(): OpenedCapture {
        var tries = 0
        while (true) {
            try {
                return source.open()
            } catch (e: CaptureException) {
                if (e.fault == CaptureFault.NO_PERMISSION || ++tries == REOPEN_TRIES || !running.get()) throw e
                sleeper.sleep(REOPEN_WAIT_MS)
            }
        }
    }

    /** Reads a block; returns its frames, or why there is none. */
    private fun read(route: Route): Int {
        val n = source.read(route.block)
        if (n <= 0) return n
        val rate = route.rateHz
        val now = clock.nanos()
        val known = source.timestamp(stamp)
        // The block's first frame, carried on from the hardware's last known frame.
        val hardware = if (known) stamp[1] + (route.read - stamp[0]) * 1_000_000_000L / rate else -1L
        if (known) {
            latencies.add(maxOf(0L, now - hardware - n * 1_000_000_000L / rate))
            routeP50Nanos = latencies.percentile(50)
            routeP95Nanos = latencies.percentile(95)
        }
        if (route.read == 0L) route.segment.beganNs = now - n * 1_000_000_000L / rate
        val missing = route.gaps.read(now, n)
        if (missing > 0) {
            captureGaps += 1
            trace.captureGap(now, GapKind.CAPTURE_GAP, missing, rate)
        }
        val taken = route.segment.ring.write(route.block, 0, n)
        val arrival = route.segment.arrival
        arrival.came(now, taken)
        wakeUp.came(arrival.samples)
        if (taken < n) {
            ringOverruns += 1
            trace.captureGap(now, GapKind.RING_OVERRUN, n - taken, rate)
        }
        trace.callback(now, clock.nanos(), n, rate, hardware, if (known) route.read else -1L)
        route.read += n
        return n
    }
}
