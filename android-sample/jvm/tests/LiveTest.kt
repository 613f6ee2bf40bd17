package hearpack.tests

import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.StreamSession
import hearpack.core.trace.TraceRecorder
import org.json.JSONArray
import java.util.concurrent.atomic.AtomicInteger
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertNull

/** A whole stream with real threads and the real model. */
class LiveTest {
    /** YAMNet itself, ten seconds of a street at 48 kHz through the session's threads: the events that Python finds. */
    @Test fun aLiveStreamOfTheRealModelGivesPythonsEvents() {
        val bundle = Given.bundle("yamnet")
        val samples = Given.floats("bundles/yamnet/golden/input-48000.f32")
        val hop = bundle.manifest.hopSamples * 3
        openEngine(bundle, Given.bundleFolder("yamnet")).use { real ->
            val calls = AtomicInteger()
            val counting =
                object : InferenceEngine by real {
                    override fun run(
                        audio: FloatArray,
                        output: FloatArray,
                        from: Int,
                        to: Int,
                    ) {
                        real.run(audio, output, from, to)
                        calls.incrementAndGet()
                    }
                }
            val script = ScriptedSource(listOf(ScriptedSource.Take(opened(48000, 192), samples)))
            var read = 0
            val began = System.nanoTime()
            // As slow as a microphone, for the trace is read as a device's; and at most a second ahead of the calls: a
            // microphone cannot wait, a test on a busy machine must.
            val paced =
                object : CaptureSource by script {
                    private fun early() = System.nanoTime() - began < read * 1_000_000_000L / 48_000

                    override fun read(target: FloatArray): Int {
                        while (early() || read > (calls.get() + 2) * hop + 48_000) Thread.sleep(1)
                        return script.read(target).also { read += it }
                    }
                }
            val listener = Listener()
            val trace = TraceRecorder()
            trace.cold { it.copy(loadBeginNs = 3, loadEndNs = 4, firstCallBeginNs = 5, firstCallEndNs = 6) }
            val clock = Clock { System.nanoTime() - zero }
            val session = StreamSession(bundle, counting, paced, null, null, clock, trace, listener)
            session.start(plainThreads)
            wait { script.over.count == 0L }
            session.stop()
            assertNull(listener.failure)
            Given.file("traces").mkdirs()
            Given.file("traces/yamnet.json").writeText(writeTrace(bundle, real, session, trace))
            val python = JSONArray(Given.file("python/yamnet-48000-events.json").readText())
            val expected =
                List(python.length()) { i ->
                    val event = python.getJSONObject(i)
                    listOf(event.getString("label"), event.getLong("onset_sample"), event.getLong("offset_sample"))
                }
            val closed = listener.events.filter { it.offsetSample != null }
            val sorted = closed.sortedWith(compareBy({ it.onsetSample }, { it.index }))
            assertEquals(expected, sorted.map { listOf(it.label, it.onsetSample, it.offsetSample) })
        }
    }
}
