package hearpack.tests

import hearpack.core.audio.CaptureSource
import hearpack.core.audio.OpenedCapture
import hearpack.core.bundle.Bundle
import hearpack.core.stream.Recording
import hearpack.core.stream.StreamSession
import hearpack.core.stream.ThreadStarter
import hearpack.core.trace.GapKind
import hearpack.core.trace.TraceRecorder
import org.json.JSONObject
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** An engine that takes twice as long as its hop, in the session that ships, with its real threads. */
class OverloadTest {
    private val bundle = Bundle.open(fakeFiles(manifestText(window = 160, hop = 160, delay = 160)), Given.API)
    private val total = 48_000
    private val samples = FloatArray(total) { it + 1f }

    // each is known by its value
    @Suppress("PLATFORM_CLASS_MAPPED_TO_KOTLIN") // its wait and notifyAll
    private val lock = Object()

    private var given = 0
    private var wanted = 0
    private val over = CountDownLatch(1)

    /** Gives a block when the engine says that so much time has gone by. */
    private val source =
        object : CaptureSource {
            override val silenced = false

            override fun open(): OpenedCapture = opened(16000, 160)

            override fun read(target: FloatArray): Int =
                synchronized(lock) {
                    while (given >= wanted && over.count > 0) lock.wait(50)
                    val n = minOf(target.size, total - given)
                    for (i in 0 until n) target[i] = samples[given + i] / total
                    given += n
                    if (given == total) over.countDown()
                    lock.notifyAll()
                    n
                }

            override fun timestamp(into: LongArray): Boolean = false

            override fun close() = Unit
        }

    private inner class SlowEngine : FakeEngine(bundle) {
        override fun run(
            audio: FloatArray,
            output: FloatArray,
            from: Int,
            to: Int,
        ) {
            super.run(audio, output, from, to)
            synchronized(lock) {
                // Two hops are captured while it computes one.
                wanted = maxOf(wanted, given) + 320
                lock.notifyAll()
                while (given < minOf(wanted, total)) lock.wait(50)
            }
        }
    }

    @Test fun theOldestIsDroppedAndCountedAndWhatIsPlayedIsNeverOld() {
        val engine = SlowEngine()
        wanted = 320
        val listener = Listener()
        val trace = TraceRecorder()
        val recording = Recording(16000, 160, 4)
        val session =
            StreamSession(bundle, engine, source, null, recording, System::nanoTime, trace, listener)
        session.start(ThreadStarter { _, body -> Thread(body).apply { start() } })
        assertTrue(over.await(60, TimeUnit.SECONDS), "the microphone was not read to its end")
        session.stop()
        assertNull(listener.failure)
        val rows = trace.workerGaps
        val drops = (0 until rows.size).filter { rows.values[1][it] == GapKind.RING_OVERRUN.ordinal.toLong() }
        val dropped = drops.sumOf { rows.values[2][it] }.toInt()
        assertTrue(dropped > total / 4, "an engine at half speed: expected many samples to be dropped, got $dropped")
        val heard = recording.a()
        assertEquals(total, heard.size + dropped, "every sample is heard or dropped")
        // What is heard goes on and on, and what is missing between is what was dropped.
        val places = heard.map { Math.round(it * total) - 1 }
        var missing = places.first()
        for (i in 1 until places.size) {
            assertTrue(places[i] > places[i - 1], "out of order at $i")
            missing += places[i] - places[i - 1] - 1
        }
        assertEquals(dropped, missing + total - 1 - places.last())
        assertEquals(160 + 8000, session.ringSamples)
    }
}
