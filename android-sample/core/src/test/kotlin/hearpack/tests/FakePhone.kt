package hearpack.tests

import hearpack.core.audio.CaptureSource
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.PlaybackSink
import hearpack.core.bundle.Bundle
import hearpack.core.stream.Failure
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.SessionListener
import hearpack.core.stream.SoundEvent
import hearpack.core.stream.StreamSession
import hearpack.core.stream.StreamWorker
import hearpack.core.trace.StreamFigures
import hearpack.core.trace.TraceRecorder
import kotlin.math.abs
import kotlin.random.Random
import kotlin.random.asJavaRandom

const val SECOND = 1_000_000_000L
const val MS = 1_000_000L

/** What a phone is like: how its audio comes and goes. */
data class PhoneType(
    val rateHz: Int = 48_000,
    val lumps: IntRange = 192..192,
    val readFrames: Int = lumps.last,
    val jitterNs: Long = 250_000,
    val outRateHz: Int = 48_000,
    val capturePpm: Int = 0,
    val outPpm: Int = 0,
)

/** For so long no audio comes, or the inference thread does not run. */
data class Stall(
    val atNs: Long,
    val lengthNs: Long,
    val ofCapture: Boolean,
) {
    val endNs: Long get() = atNs + lengthNs
}

/** Counts, and keeps the last figures. */
class Counter : SessionListener {
    var figures: StreamFigures? = null
    var failure: Failure? = null
    val opened = mutableListOf<OpenedCapture>()
    val events = mutableListOf<SoundEvent>()

    override fun onOpened(opened: OpenedCapture) {
        this.opened += opened
    }

    override fun onEvent(event: SoundEvent) {
        events += event
    }

    override fun onFigures(figures: StreamFigures) {
        this.figures = figures
    }

    override fun onSilenced(silenced: Boolean) = Unit

    override fun onFailed(failure: Failure) {
        this.failure = failure
    }
}

/**
 * The session's three threads as one, in a time of its own: an hour takes seconds, and comes out the same each time.
 *
 * @param computeNs what a call of the engine takes.
 * @param routeChanges when the microphone becomes another, ns.
 * @param onRead looks at each block that is played; its time.
 */
class FakePhone(
    bundle: Bundle,
    private val type: PhoneType,
    private val stalls: List<Stall> = emptyList(),
    private val computeNs: Long = MS,
    sink: PlaybackSink? = SilentSink(type.outRateHz),
    engine: InferenceEngine = FakeEngine(bundle),
    seed: Int = 1,
    routeChanges: List<Long> = emptyList(),
    private val onRead: (Long) -> Unit = {},
) : CaptureSource {
    private val changes = ArrayDeque(routeChanges)
    private val random = Random(seed).asJavaRandom()
    private val clock = FakeClock()
    private val counting =
        object : InferenceEngine by engine {
            override fun run(
                audio: FloatArray,
                output: FloatArray,
                from: Int,
                to: Int,
            ) {
                calls++
                engine.run(audio, output, from, to)
            }
        }
    val listener = Counter()
    val trace = TraceRecorder()
    val session = StreamSession(bundle, counting, this, sink, null, clock, trace, listener, sleeper = {})
    private var waiting = 0 // frames that came and were not read
    private var framesDue = 0L
    private var lump = 0
    private var dueNs = 0L
    private var lastNs = 0L
    private var reads = 0L

    var calls = 0L
        private set
    var captured = 0L
        private set
    var wakeUps = 0L
        private set
    override val silenced = false

    override fun open(): OpenedCapture = opened(type.rateHz, type.readFrames)

    override fun read(target: FloatArray): Int {
        if (changes.isNotEmpty() && clock.now >= changes.first()) {
            changes.removeFirst()
            waiting = 0 // lost with the device
            return CaptureSource.ROUTE_CHANGED
        }
        val n = minOf(target.size, waiting)
        target.fill(0f, 0, n)
        waiting -= n
        captured += n
        return n
    }

    override fun timestamp(into: LongArray): Boolean = false

    override fun close() = Unit

    /** Samples at the device's rate that were let go. */
    val lost: Long get() {
        val rows = trace.workerGaps
        return (0 until rows.size).filter { rows.values[3][it] == type.rateHz.toLong() }.sumOf { rows.values[2][it] }
    }

    private fun nextLump() {
        lump = type.lumps.first + random.nextInt(type.lumps.last - type.lumps.first + 1)
        framesDue += lump
        var due = (framesDue * 1e9 / (type.rateHz * (1 + type.capturePpm * 1e-6))).toLong()
        due += (abs(random.nextGaussian()) * type.jitterNs).toLong()
        stalls.find { it.ofCapture && due in it.atNs until it.endNs }?.let { due = it.endNs }
        lastNs = maxOf(due, lastNs + 1000)
        dueNs = lastNs
    }

    /** Runs for so long. */
    fun run(seconds: Double) {
        val end = (seconds * SECOND).toLong()
        session.capture.step()
        nextLump()
        var workerNs = 0L
        var freeNs = 0L
        var playNs = 0L
        while (true) {
            val now = minOf(dueNs, workerNs, playNs)
            if (now >= end) return
            clock.now = maxOf(now, clock.now)
            when (now) {
                dueNs -> {
                    waiting += lump
                    val wanted = session.wakeUp.wanted
                    val segment = session.capture.segment
                    while (waiting >= minOf(type.readFrames, type.lumps.first)) session.capture.step()
                    if (session.capture.segment?.ended == true) session.capture.step()
                    nextLump()
                    if (session.capture.segment!!
                            .arrival.samples >= wanted
                    ) {
                        workerNs = maxOf(freeNs, now + 50_000 + random.nextInt(450_000))
                    }
                }

                workerNs -> {
                    val stall = stalls.find { !it.ofCapture && now in it.atNs until it.endNs }
                    if (stall != null) {
                        workerNs = stall.endNs
                        continue
                    }
                    val before = calls
                    val pause = session.worker.step()
                    check(pause != StreamWorker.DONE)
                    freeNs = now + (calls - before) * computeNs
                    if (pause > 0) wakeUps++
                    workerNs = maxOf(freeNs, now + pause * MS)
                }

                else -> {
                    session.player?.step()
                    onRead(now)
                    reads++
                    playNs = (reads * (1e7 / (1 + type.outPpm * 1e-6))).toLong()
                }
            }
        }
    }
}

/** A speaker that takes everything. */
class SilentSink(
    private val rateHz: Int,
) : PlaybackSink {
    override fun open(): Int = rateHz

    override fun write(
        samples: FloatArray,
        count: Int,
    ): Boolean = true

    override fun close() = Unit
}
