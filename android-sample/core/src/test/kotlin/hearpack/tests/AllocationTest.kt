package hearpack.tests

import com.sun.management.ThreadMXBean
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.PlayoutRing
import hearpack.core.audio.Resampler
import hearpack.core.bundle.Bundle
import hearpack.core.stream.Pipeline
import hearpack.core.stream.StreamSession
import hearpack.core.stream.ThreadStarter
import hearpack.core.trace.Arrival
import hearpack.core.trace.ComputeMeter
import hearpack.core.trace.GapDetector
import hearpack.core.trace.TraceRecorder
import java.lang.management.ManagementFactory
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue

private val threads = ManagementFactory.getThreadMXBean() as ThreadMXBean

private fun allocated() = threads.getThreadAllocatedBytes(Thread.currentThread().id)

/** A function type would box its Int. */
private fun interface Body {
    fun run(i: Int)
}

private const val ROUNDS = 5

/**
 * 0 bytes per block: what runs for every block of audio allocates nothing in core/.
 *
 * Rounds of some thousand blocks are measured. The JVM itself may allocate a hundred bytes once, when it recompiles a
 * method or loads a class for a branch not taken before: so some round must be at 0, and all of them together under one
 * byte a block.
 */
class AllocationTest {
    /** Bytes that [body] allocates on this thread, in rounds of [count] runs after a first one that does not count. */
    private fun bytes(
        count: Int = 2000,
        body: Body,
    ): List<Long> {
        val marks = LongArray(ROUNDS + 1)
        for (round in 0..ROUNDS) {
            for (i in 0 until count) body.run(i)
            marks[round] = allocated()
        }
        return between(marks)
    }

    private fun between(marks: LongArray) = marks.toList().zipWithNext { a, b -> b - a }

    private fun assertNothing(
        rounds: List<Long>,
        blocks: Int,
        what: String,
    ) {
        assertEquals(0, rounds.min(), "$what: bytes a round $rounds")
        assertTrue(rounds.sum() < ROUNDS * blocks, "$what: bytes a round $rounds")
    }

    @Test fun theMeasurementSeesAnAllocation() {
        val kept = arrayOfNulls<Any>(1)
        assertTrue(bytes { kept[0] = FloatArray(16 + it % 2) }.min() > 2000 * 16)
    }

    private fun pipeline(
        bundle: Bundle,
        trace: TraceRecorder,
    ): Pipeline {
        val meter = ComputeMeter(Clock { 5 }, 128, 16000, trace).apply { arrival = Arrival(48000) }
        return Pipeline(bundle, FakeEngine(bundle), 48000, 512, { _, _, _ -> }, {}, meter)
    }

    @Test fun anEnhancersPipelineWithAllItsDsp() {
        val dsp =
            ""","dsp":[{"kind":"highpass","cutoff_hz":80},{"kind":"gain","gain_db":3},
               {"kind":"wet_dry","attenuation_limit_db":12},{"kind":"limiter","ceiling_dbfs":-6,"release_ms":5}]"""
        val pipeline = pipeline(fakeEnhancer(dsp), TraceRecorder())
        val block = FloatArray(192) { (it % 7 - 3) / 4f }
        assertNothing(bytes { pipeline.push(block, 0, block.size) }, 2000, "pipeline")
    }

    @Test fun aClassifiersPipeline() {
        val bundle = fakeClassifier(more = ""","dsp":[{"kind":"gate","threshold_dbfs":-60}]""")
        val pipeline = pipeline(bundle, TraceRecorder())
        val block = FloatArray(192) { 0.1f }
        assertNothing(bytes { pipeline.push(block, 0, block.size) }, 2000, "pipeline")
    }

    @Test fun resamplersRingAndGapDetector() {
        for ((from, to) in listOf(48000 to 16000, 16000 to 48000, 44100 to 16000, 44101 to 16000)) {
            val resampler = Resampler(from, to)
            val block = FloatArray(from / 100)
            val out = FloatArray(resampler.mostOutputs(block.size))
            assertNothing(bytes(400) { resampler.process(block, 0, block.size, out) }, 400, "$from to $to")
        }
        val ring = PlayoutRing(4800, 480, 120, 480, 48000)
        val block = FloatArray(480) { 0.5f }
        val gaps = GapDetector(48000, 960)
        val used =
            bytes {
                ring.write(block, 0, 480, it * 10_000_000L)
                ring.read(block, 480, it * 10_000_000L)
                gaps.read(it * 10_000_000L, 480)
            }
        assertNothing(used, 2000, "playout ring and gap detector")
    }

    /** The session's own capture and inference threads, measured from inside the microphone and the engine. */
    @Test fun aStreamsCaptureAndInferenceThreads() {
        val bundle = fakeEnhancer()
        val captured = LongArray(ROUNDS + 1)
        val inferred = LongArray(ROUNDS + 1)
        val done = CountDownLatch(2)
        val engine =
            object : FakeEngine(bundle) {
                override fun run(
                    audio: FloatArray,
                    output: FloatArray,
                    from: Int,
                    to: Int,
                ) {
                    super.run(audio, output, from, to)
                    if (calls % 10_000 == 0 &&
                        calls / 10_000 in 1..ROUNDS + 1
                    ) {
                        inferred[calls / 10_000 - 1] = allocated()
                    }
                    if (calls == 10_000 * (ROUNDS + 1)) done.countDown()
                }
            }
        val source =
            object : CaptureSource {
                var reads = 0

                override val silenced = false

                override fun open(): OpenedCapture = opened(16000, 64)

                override fun read(target: FloatArray): Int {
                    reads++
                    if (reads % 2_000 == 0 && reads / 2_000 in 1..ROUNDS + 1) captured[reads / 2_000 - 1] = allocated()
                    if (reads == 2_000 * (ROUNDS + 1)) done.countDown()
                    // Slow at first, so that the other thread runs dry and has loaded what it needs for waiting.
                    if (reads % 8 == 0 || reads < 200) Thread.sleep(1)
                    return target.size
                }

                override fun timestamp(into: LongArray): Boolean {
                    into[0] = reads * 64L
                    into[1] = reads * 4_000_000L
                    return true
                }

                override fun close() = Unit
            }
        val clock = FakeClock() // stands still: the ten figures a second for the screen are not the stream's own
        val session = StreamSession(bundle, engine, source, null, null, clock, TraceRecorder(), Listener())
        session.start(ThreadStarter { _, body -> Thread(body).apply { start() } })
        assertTrue(done.await(60, TimeUnit.SECONDS), "the stream did not run")
        session.stop()
        assertNothing(between(captured), 2_000, "capture thread")
        assertNothing(between(inferred), 10_000, "inference thread")
    }
}
