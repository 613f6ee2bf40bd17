package hearpack.tests

import hearpack.core.audio.CaptureSource
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.PlaybackException
import hearpack.core.audio.PlaybackSink
import hearpack.core.bundle.Bundle
import hearpack.core.stream.Recording
import hearpack.core.stream.StreamSession
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNull
import kotlin.test.assertTrue

private val SECONDS = System.getProperty("seconds")?.toDouble() ?: 120.0

/** What happens to an app on a phone's day. */
class PhoneTest {
    private val bundle = Bundle.open(fakeFiles(manifestText(window = 512, hop = 128, delay = 384)), Given.API)

    @Test fun anHourOfLumpsDriftAndRouteChanges() {
        for (lump in listOf(96, 192, 960, 1922, 4800)) {
            for (ppm in listOf(-200, 200)) {
                val type = PhoneType(lumps = lump..lump, readFrames = minOf(lump, 192), capturePpm = ppm)
                val changes = List(5) { (SECONDS * (it + 1) / 6 * 1e9).toLong() }
                val phone = FakePhone(bundle, type, routeChanges = changes)
                phone.run(SECONDS)
                val name = "lumps of $lump, $ppm ppm"
                assertNull(phone.listener.failure, name)
                assertEquals(6, phone.listener.opened.size, name)
                assertEquals(0, phone.listener.figures!!.captureGaps, "$name: no audio was missing")
                assertTrue(phone.wakeUps <= 150 * SECONDS, "$name: ${phone.wakeUps / SECONDS} wake-ups a second")
                var frames = 0L
                phone.trace.callbacks.each { frames += it[2] }
                assertEquals(phone.captured, frames, "$name: every sample is in the trace")
                var segment = phone.session.capture.first
                var seen = 0L
                while (segment != null) {
                    seen += segment.arrival.kept
                    segment = segment.next
                }
                assertEquals(phone.captured, seen + phone.lost, name)
            }
        }
    }

    /** A speaker that dies, and comes back or does not. */
    private class DyingSink(
        private val comesBack: Boolean,
    ) : PlaybackSink {
        val writes = AtomicInteger()
        val opens = AtomicInteger()

        override fun open(): Int {
            if (opens.incrementAndGet() > 1 && !comesBack) throw PlaybackException("dead object")
            return 16000
        }

        override fun write(
            samples: FloatArray,
            count: Int,
        ): Boolean {
            Thread.sleep(1)
            return writes.incrementAndGet() != 20
        }

        override fun close() = Unit
    }

    private fun playing(sink: PlaybackSink): Pair<StreamSession, Listener> {
        val listener = Listener()
        val source = ScriptedSource(listOf(ScriptedSource.Take(opened(), FloatArray(40_000))))
        val bundle = fakeEnhancer()
        val session =
            StreamSession(bundle, FakeEngine(bundle), source, sink, null, System::nanoTime, TraceRecorder(), listener) {
                Thread.sleep(1)
            }
        session.start(plainThreads)
        return session to listener
    }

    @Test fun aSpeakerThatDiesIsOpenedAgain() {
        val sink = DyingSink(comesBack = true)
        val (session, listener) = playing(sink)
        wait { sink.writes.get() > 60 }
        assertTrue(session.stop())
        assertEquals(2, sink.opens.get())
        assertNull(listener.speaker)
    }

    @Test fun aSpeakerThatStaysDeadIsToldOnceAndTheStreamGoesOn() {
        val sink = DyingSink(comesBack = false)
        val (session, listener) = playing(sink)
        wait { listener.speaker != null }
        val written = sink.writes.get()
        Thread.sleep(50)
        assertEquals("dead object", listener.speaker)
        assertEquals(20, written)
        assertEquals(written, sink.writes.get(), "no busy loop over a dead speaker")
        assertNull(listener.failure)
        assertTrue(session.stop())
    }

    /** A microphone whose read waits for ever, until it is interrupted or not even then. */
    private class Stuck(
        private val wakes: Boolean,
    ) : CaptureSource {
        private val latch = CountDownLatch(1)
        val reading = CountDownLatch(1)
        override val silenced = false

        override fun open(): OpenedCapture = opened()

        override fun read(target: FloatArray): Int {
            reading.countDown()
            latch.await()
            return CaptureSource.FAILED
        }

        override fun timestamp(into: LongArray): Boolean = false

        override fun close() = Unit

        override fun interrupt() {
            if (wakes) latch.countDown()
        }

        fun free() = latch.countDown()
    }

    private fun stuck(source: Stuck): Pair<StreamSession, Listener> {
        val listener = Listener()
        val bundle = fakeEnhancer()
        val session =
            StreamSession(bundle, FakeEngine(bundle), source, null, null, System::nanoTime, TraceRecorder(), listener)
        session.start(plainThreads)
        source.reading.await()
        return session to listener
    }

    @Test fun aReadThatWaitsIsWokenByAStop() {
        val (session, listener) = stuck(Stuck(wakes = true))
        assertTrue(session.stop())
        assertNull(listener.failure, "a stop is no failure of the microphone")
    }

    @Test fun aReadThatNeverReturnsDoesNotHoldTheStop() {
        val source = Stuck(wakes = false)
        val (session, _) = stuck(source)
        assertFalse(session.stop(longestMs = 1500))
        source.free()
    }

    @Test fun ofALongRecordingTheLastSecondsAreKeptAndStayAligned() {
        val recording = Recording(1000, 30, 4)
        val sound = FloatArray(60_000) { it.toFloat() }
        var at = 0
        while (at < sound.size) {
            val n = minOf(170, sound.size - at)
            recording.addOriginal(sound, at, n)
            // The enhancer's output is the input, 30 samples late.
            recording.addEnhanced(FloatArray(n) { maxOf(0f, at + it - 30f) }, n)
            at += n
        }
        assertEquals(4000, recording.samples)
        assertEquals((sound.size - 30 - 4000 until sound.size - 30).map { it.toFloat() }, recording.a().toList())
        assertEquals(recording.a().toList(), recording.b().toList())
    }
}
