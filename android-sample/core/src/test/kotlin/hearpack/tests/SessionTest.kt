package hearpack.tests

import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureFault
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.PlaybackSink
import hearpack.core.audio.Port
import hearpack.core.bundle.Bundle
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.Recording
import hearpack.core.stream.StreamSession
import hearpack.core.stream.ThreadRole
import hearpack.core.stream.ThreadStarter
import hearpack.core.trace.AppInfo
import hearpack.core.trace.DeviceInfo
import hearpack.core.trace.ThermalState
import hearpack.core.trace.TraceEnd
import hearpack.core.trace.TraceRecorder
import hearpack.core.trace.TraceWriter
import org.json.JSONObject
import java.util.concurrent.TimeUnit
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** Traces count from the start of the process. */
val zero: Long = System.nanoTime()

val plainThreads = ThreadStarter { _, body -> Thread(body).apply { start() } }

fun writeTrace(
    bundle: Bundle,
    engine: InferenceEngine,
    session: StreamSession,
    trace: TraceRecorder,
    endNs: Long = System.nanoTime() - zero,
): String {
    trace.thermal(ThermalState(1, "nominal", 0.3))
    val device = DeviceInfo("Maker", "Phone", null, "15", 35, false, 8, 8_000_000_000, false)
    val writer = TraceWriter(AppInfo("0.1.0", false), device, bundle, OpenedEngine(engine, emptyList()), 1)
    return writer.write(
        trace,
        session.opened!!,
        session.ringSamples,
        session.devices,
        TraceEnd(endNs, "stopped", null, 90_000_000),
    )
}

fun wait(until: () -> Boolean) {
    val end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20)
    while (!until() && System.nanoTime() < end) Thread.sleep(1)
    assertTrue(until(), "waited 20 s in vain")
}

/** Whole streams with real threads, a scripted microphone and engines that can be checked. */
class SessionTest {
    private class Stream(
        takes: List<ScriptedSource.Take>,
        sink: PlaybackSink? = null,
        failAt: Int = -1,
        nanAt: Int = -1,
    ) {
        val bundle = fakeEnhancer()
        val engine =
            FakeEngine(bundle).apply {
                this.failAt = failAt
                this.nanAt = nanAt
            }
        val source = ScriptedSource(takes)
        val listener = Listener()
        val trace = TraceRecorder()
        val recording = Recording(16000, bundle.manifest.geometry.delaySamples, 2)
        val session =
            StreamSession(
                bundle,
                engine,
                source,
                sink,
                recording,
                System::nanoTime,
                trace,
                listener,
            ) { Thread.sleep(1) }

        fun run(starter: ThreadStarter = plainThreads): Stream {
            session.start(starter)
            val until = System.nanoTime() + TimeUnit.SECONDS.toNanos(20)
            while (source.over.count > 0 && listener.failed.count > 0 && System.nanoTime() < until) Thread.sleep(1)
            assertTrue(source.over.count == 0L || listener.failed.count == 0L, "the stream neither ended nor failed")
            return this
        }

        /** Waits until the inference thread has called the engine this often. */
        fun calls(count: Int): Stream {
            val until = System.nanoTime() + TimeUnit.SECONDS.toNanos(20)
            while (engine.calls < count && System.nanoTime() < until) Thread.sleep(1)
            assertTrue(engine.calls >= count, "expected $count calls, there were ${engine.calls}")
            return this
        }

        fun stop() = apply { session.stop() }
    }

    private fun noise(count: Int) = FloatArray(count) { ((it * 7919) % 1000) / 1000f - 0.5f }

    @Test fun everySampleComesOutEnhancedAndAlignedWithTheOriginal() {
        val samples = noise(4000)
        val stream = Stream(listOf(ScriptedSource.Take(opened(), samples))).run().stop()
        assertNull(stream.listener.failure)
        assertEquals(samples.toList(), stream.recording.a().toList())
        assertEquals(samples.toList(), stream.recording.b().toList())
        assertTrue(stream.source.closeCount >= 1)
        assertNotNull(stream.trace.coldStart.firstDecisionNs)
    }

    @Test fun aRouteChangeInMidStreamOpensAgainAtTheNewRate() {
        val gone = CaptureException(CaptureFault.UNAVAILABLE, "not there yet")
        val headset = opened(48000, 24, Port.BLUETOOTH_HFP, Port.BLUETOOTH_HFP)
        val takes =
            listOf(
                ScriptedSource.Take(opened(), noise(400), CaptureSource.ROUTE_CHANGED),
                ScriptedSource.Take(null, fault = gone),
                ScriptedSource.Take(headset, noise(2400)),
            )
        val stream = Stream(takes).run().stop()
        assertNull(stream.listener.failure)
        assertEquals(listOf(16000, 48000), stream.listener.opened.map { it.granted.rateHz })
        val trace = JSONObject(write(stream))
        val routes = trace.getJSONArray("routes")
        assertEquals("route changed", routes.getJSONObject(1).getString("reason"))
        assertEquals("bluetooth_hfp", routes.getJSONObject(1).getString("input"))
        val kinds =
            trace.getJSONArray("gaps").let { gaps ->
                List(gaps.length()) { gaps.getJSONObject(it).getString("kind") }
            }
        assertTrue("reset" in kinds, kinds.toString())
    }

    @Test fun aRouteThatIsGoneBeforeInferenceBeginsIsHeardAllTheSame() {
        val takes =
            listOf(
                ScriptedSource.Take(opened(), noise(400), CaptureSource.ROUTE_CHANGED),
                ScriptedSource.Take(opened(), noise(80)),
            )
        val stream = Stream(takes)
        val late =
            ThreadStarter { role, body ->
                plainThreads.start(role) {
                    if (role == ThreadRole.INFERENCE) stream.source.over.await()
                    body.run()
                }
            }
        stream.run(late).stop()
        assertTrue(stream.engine.calls >= 120, "expected 480 samples in calls of 4, there were ${stream.engine.calls}")
    }

    @Test fun aMicrophoneTakenByAnotherAppEndsTheStreamAndIsNamed() {
        val taken = CaptureException(CaptureFault.TAKEN, "another app holds the microphone")
        val stream = Stream(listOf(ScriptedSource.Take(null, fault = taken))).run().stop()
        assertEquals(CaptureFault.TAKEN, stream.listener.failure?.fault)
        assertTrue(stream.source.closeCount >= 1)
    }

    @Test fun silencingIsToldBothWays() {
        val stream = Stream(listOf(ScriptedSource.Take(opened(), noise(400))))
        stream.source.silenced = true
        stream.run().calls(100)
        wait { stream.listener.silences.size == 1 }
        stream.source.silenced = false
        wait { stream.listener.silences.size == 2 }
        stream.stop()
        assertEquals(listOf(true, false), stream.listener.silences.toList())
    }

    @Test fun aMicrophoneThatStopsDeliveringIsNamed() {
        val take = ScriptedSource.Take(opened(), noise(40), CaptureSource.FAILED)
        val stream = Stream(listOf(take)).run().stop()
        assertEquals(CaptureFault.UNAVAILABLE, stream.listener.failure?.fault)
    }

    @Test fun aFailingModelEndsTheStreamWithItsMessageAndTheTraceSaysSo() {
        val stream = Stream(listOf(ScriptedSource.Take(opened(), noise(4000))), failAt = 20)
        stream.session.start(plainThreads)
        wait { stream.listener.failure != null }
        stream.stop()
        assertEquals("the fake fails at call 20", stream.listener.failure?.message)
        val inferences = JSONObject(write(stream)).getJSONArray("inferences")
        assertEquals("the fake fails at call 20", inferences.getJSONObject(inferences.length() - 1).getString("error"))
    }

    @Test fun whatIsNoNumberBecomesSilenceAndIsCounted() {
        val samples = noise(4000)
        val heard = samples.copyOf()
        for ((at, given, kept) in listOf(Triple(123, Float.NaN, 0f), Triple(130, 1e25f, 4f), Triple(131, -9f, -4f))) {
            samples[at] = given
            heard[at] = kept
        }
        val stream = Stream(listOf(ScriptedSource.Take(opened(), samples))).run().calls(1000)
        wait {
            stream.listener.figures
                .lastOrNull()
                ?.let { it.nanSamples == 1L && it.limitedSamples == 2L } ?: false
        }
        stream.stop()
        assertNull(stream.listener.failure)
        assertEquals(heard.toList(), stream.recording.a().toList())
    }

    @Test fun outputThatIsNotFiniteIsSilenceAndResetsTheModel() {
        val stream = Stream(listOf(ScriptedSource.Take(opened(), noise(4000))), nanAt = 50).run().calls(1000)
        wait {
            stream.listener.figures
                .lastOrNull()
                ?.nanOutputs == 1L
        }
        stream.stop()
        assertNull(stream.listener.failure)
        val enhanced = stream.recording.b()
        assertTrue(enhanced.all { it.isFinite() })
        assertTrue(enhanced.drop(300).any { it != 0f }, "the stream went on")
        val gaps = JSONObject(write(stream)).getJSONArray("gaps")
        // A busy machine may leave gaps of its own.
        assertEquals(1, (0 until gaps.length()).count { gaps.getJSONObject(it).getString("kind") == "reset" })
    }

    @Test fun monitoringPlaysWhatTheModelGaveOnceItIsKnownHowSoundComes() {
        val speaker = KeptSound(16000)
        val samples = noise(40_000)
        val stream = Stream(listOf(ScriptedSource.Take(opened(), samples)), speaker).run().calls(10_000)
        wait { speaker.played.size > 60_000 }
        stream.stop()
        val played = speaker.played.toList()
        val first = played.indexOfFirst { it != 0f }
        // At least the first half second is not played; after its prefill the fake speaker is faster than sound, and starves.
        val heard = played.subList(first, first + 160)
        val from = (7990..samples.size - 160).first { samples[it] == heard[0] && samples[it + 1] == heard[1] }
        assertEquals(samples.toList().subList(from, from + 160), heard)
    }

    @Test fun aTraceIsWrittenAsTheSchemaAsks() {
        val samples = noise(4000)
        val stream = Stream(listOf(ScriptedSource.Take(opened(), samples))).run().stop()
        stream.trace.cold {
            it.copy(
                appReadyNs = 1,
                bundleCheckedNs = 2,
                loadBeginNs = 3,
                loadEndNs = 4,
                firstCallBeginNs = 5,
                firstCallEndNs = 6,
            )
        }
        val text = write(stream)
        Given.file("traces").mkdirs()
        Given.file("traces/session.json").writeText(text) // pytest reads it
        val trace = JSONObject(text)
        val callbacks = trace.getJSONArray("callbacks")
        assertEquals(4000, (0 until callbacks.length()).sumOf { callbacks.getJSONObject(it).getInt("frames") })
        val inferences = trace.getJSONArray("inferences")
        assertTrue(inferences.getJSONObject(0).getBoolean("warm_up"))
        assertEquals(4, inferences.getJSONObject(1).getInt("end_sample"))
        assertEquals(trace.getJSONObject("end").getInt("inferences"), inferences.length())
    }

    private fun write(stream: Stream): String = writeTrace(stream.bundle, stream.engine, stream.session, stream.trace)
}
