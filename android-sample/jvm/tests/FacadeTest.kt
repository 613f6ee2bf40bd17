package hearpack.tests

import hearpack.android.GatedSink
import hearpack.android.Hearpack
import hearpack.android.HearpackListener
import hearpack.android.HearpackPhase
import hearpack.android.Phone
import hearpack.android.StreamResult
import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureFault
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.Monitoring
import hearpack.core.audio.Muted
import hearpack.core.audio.Output
import hearpack.core.audio.PlaybackGate
import hearpack.core.audio.PlaybackSink
import hearpack.core.audio.Port
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFiles
import hearpack.core.bundle.ComputeUnit
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.StreamException
import hearpack.core.stream.AudioSink
import hearpack.core.stream.EngineFactory
import hearpack.core.stream.Failure
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.SoundEvent
import hearpack.core.stream.ThreadRole
import hearpack.core.trace.AppInfo
import hearpack.core.trace.DeviceInfo
import hearpack.core.trace.ThermalState
import hearpack.core.trace.TraceWriter
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.json.JSONObject
import java.util.Collections
import java.util.concurrent.Executors
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** A phone without Android: threads of the JVM, a scripted microphone, and engines that can be checked. */
internal class JvmPhone(
    private val takes: List<ScriptedSource.Take>,
) : Phone {
    private val mainThread = Executors.newSingleThreadExecutor { Thread(it).apply { isDaemon = true } }
    private val worker = Executors.newSingleThreadExecutor { Thread(it).apply { isDaemon = true } }
    private val checked: MutableSet<String> = Collections.synchronizedSet(mutableSetOf())
    val made: MutableList<FakeEngine> = Collections.synchronizedList(mutableListOf())
    val sources: MutableList<ScriptedSource> = Collections.synchronizedList(mutableListOf())

    @Volatile var allowed = true

    @Volatile var refuses = false

    /** Whether models are checked before they run. */
    @Volatile var checks = false

    @Volatile var failAt = -1

    @Volatile var closed = false

    override val clock = Clock(System::nanoTime)
    override val androidApi = Given.API
    override val engines =
        object : EngineFactory {
            override fun open(
                bundle: Bundle,
                unit: ComputeUnit,
            ): InferenceEngine {
                if (refuses) throw EngineException("no delegate")
                return FakeEngine(bundle).also {
                    it.failAt = failAt
                    made += it
                }
            }
        }
    override val weightCache = "none"

    @Volatile override var output = Output(Port.WIRED, Monitoring.ALLOWED)
    override var onOutput: ((Output) -> Unit)? = null
    override var onThermal: ((ThermalState) -> Unit)? = null

    override fun main(task: () -> Unit) = mainThread.execute(task)

    override fun background(task: () -> Unit) = worker.execute(task)

    override fun mayRecord() = allowed

    override fun microphone(): CaptureSource = ScriptedSource(takes).also { sources += it }

    override fun speaker(onMuted: () -> Unit): GatedSink {
        val sound = KeptSound(16_000)
        return object : GatedSink, PlaybackSink by sound {
            override val gate = PlaybackGate { onMuted() }

            override fun open(): Int {
                gate.route(output.monitoring)
                gate.focus(true)
                return sound.open()
            }
        }
    }

    override fun answer(isHeadset: Boolean) {
        output = Output(output.port, if (isHeadset) Monitoring.ALLOWED else Monitoring.REFUSED)
        onOutput?.invoke(output)
    }

    override fun start(
        role: ThreadRole,
        body: Runnable,
    ) = Thread(body).apply { start() }

    override fun thermal() = ThermalState(0, "nominal", null)

    override fun peakMemoryBytes(): Long? = null

    override fun writer(
        bundle: Bundle,
        opened: OpenedEngine,
    ) = TraceWriter(
        AppInfo("0.1.0", false),
        DeviceInfo("Maker", "Phone", null, "15", 35, false, 8, 8_000_000_000, false),
        bundle,
        opened,
        1,
    )

    override fun hasChecked(bundle: Bundle) = bundle.modelPath in checked || !checks

    override fun markChecked(bundle: Bundle) {
        checked += bundle.modelPath
    }

    override fun close() {
        closed = true
        worker.shutdown()
    }
}

private class Heard : HearpackListener {
    val failures: MutableList<Failure> = Collections.synchronizedList(mutableListOf())
    val refusals: MutableList<Throwable> = Collections.synchronizedList(mutableListOf())
    val results: MutableList<StreamResult> = Collections.synchronizedList(mutableListOf())
    val outputs: MutableList<Muted?> = Collections.synchronizedList(mutableListOf())

    override fun onFailed(failure: Failure) {
        failures += failure
    }

    override fun onRefused(error: Throwable) {
        refusals += error
    }

    override fun onStopped(result: StreamResult) {
        results += result
    }

    override fun onOutput(
        output: Output,
        muted: Muted?,
    ) {
        outputs += muted
    }
}

/** The facade over a phone of the JVM: one object from a bundle to a flow of events. */
class FacadeTest {
    // The fake's scores are a window's first and last sample: the cat is heard twice.
    private val twice = FloatArray(4000) { if (it % 2000 in 400..1200) 0.9f else 0f }

    private fun classifier(): BundleFiles =
        fakeFiles(manifestText("classifier", "window", 8, 4, 0, 2), listOf("cat", "dog"))

    private fun enhancer(): BundleFiles = fakeFiles(manifestText())

    private fun phone(
        samples: FloatArray = twice,
        code: Int = 0,
    ) = JvmPhone(listOf(ScriptedSource.Take(opened(), samples, code)))

    private fun <T> within(body: suspend () -> T): T = runBlocking { withTimeout(20_000) { body() } }

    private fun Hearpack.await(wanted: HearpackPhase) = within { phase.first { it == wanted } }

    @Test fun eventsComeAsAFlowThatEndsWithStop() {
        val phone = phone()
        val heard = Heard()
        val hearpack = Hearpack(classifier(), phone, heard)
        val flow: Flow<SoundEvent> = hearpack.start() // before the model is loaded
        val first = within { hearpack.phase.first { it == HearpackPhase.RUNNING } }
        assertEquals(HearpackPhase.RUNNING, first)
        wait {
            phone.sources
                .single()
                .over.count == 0L
        }
        hearpack.stop()
        val events = within { flow.toList() }
        assertEquals(8, events.size)
        assertEquals(listOf(2, 2, 2, 2), events.groupBy { it.index to it.onsetSample }.map { it.value.size })
        val cat = events.first { it.label == "cat" && it.offsetSample == null }
        assertTrue(hearpack.seconds(cat).begin in 0.024..0.026 && hearpack.seconds(cat).end == null)
        val trace = JSONObject(assertNotNull(hearpack.result?.trace()))
        assertEquals(4, trace.getJSONArray("events").length())
        assertEquals(1, heard.results.size)
        assertNull(hearpack.result?.recording)
        assertEquals(HearpackPhase.READY, hearpack.phase.value)
        hearpack.close()
        wait { phone.closed }
        assertTrue(phone.made.single().closed)
    }

    @Test fun whoStopsCollectingStopsTheStreamAndMayStartAgain() {
        val phone = phone()
        val hearpack = Hearpack(classifier(), phone)
        repeat(2) {
            val one = within { hearpack.start().take(1).toList() }
            assertEquals("dog", one.single().label)
            hearpack.await(HearpackPhase.READY)
            wait { phone.sources.last().closeCount > 0 }
        }
        assertEquals(2, phone.sources.size)
        hearpack.close()
        wait { phone.closed }
        assertTrue(phone.made.single().closed)
    }

    @Test fun aBundleThatIsRefusedEndsTheFlowWithItsReasonAndMayBeTriedAgain() {
        val phone = phone()
        val heard = Heard()
        phone.refuses = true
        val hearpack = Hearpack(classifier(), phone, heard)
        assertFailsWith<EngineException> { within { hearpack.start().toList() } }
        assertTrue(
            "no delegate" in
                heard.refusals
                    .single()
                    .message
                    .orEmpty(),
        )
        phone.refuses = false
        hearpack.load()
        hearpack.await(HearpackPhase.READY)
        assertEquals("dog", within { hearpack.start().take(1).toList() }.single().label)
        val damaged = MemoryFiles(mutableMapOf())
        assertFailsWith<BundleException> { within { Hearpack(damaged, phone()).start().toList() } }
    }

    @Test fun aModelThatCannotBeCheckedIsNotRun() {
        val phone = phone().apply { checks = true }
        // There are no golden vectors.
        assertFailsWith<BundleException> { within { Hearpack(classifier(), phone).start().toList() } }
        wait { phone.made.single().closed }
    }

    @Test fun withoutPermissionNothingIsOpened() {
        val phone = phone().apply { allowed = false }
        val heard = Heard()
        val hearpack = Hearpack(classifier(), phone, heard)
        val why = assertFailsWith<CaptureException> { within { hearpack.start().toList() } }
        assertEquals(CaptureFault.NO_PERMISSION, why.fault)
        assertEquals(CaptureFault.NO_PERMISSION, heard.failures.single().fault)
        assertTrue(phone.sources.isEmpty())
        assertEquals(HearpackPhase.READY, hearpack.phase.value)
    }

    @Test fun aStreamThatFailsThrowsWhatEndedIt() {
        val phone = phone(code = CaptureSource.FAILED)
        val heard = Heard()
        val hearpack = Hearpack(classifier(), phone, heard)
        val events = mutableListOf<SoundEvent>()
        val why = assertFailsWith<CaptureException> { within { hearpack.start().collect { events += it } } }
        assertEquals(CaptureFault.UNAVAILABLE, why.fault)
        assertTrue(events.isNotEmpty()) // what was captured before was worked on
        assertEquals("error", JSONObject(hearpack.result?.trace()!!).getJSONObject("end").getString("reason"))
        assertEquals(1, heard.failures.size)
    }

    @Test fun anEnhancerIsHandedOnAndKeptAndSilentWhereItWouldHowl() {
        val phone = phone()
        val heard = Heard()
        val hearpack = Hearpack(enhancer(), phone, heard)
        val given = Collections.synchronizedList(mutableListOf<Float>())
        hearpack.onAudio = AudioSink { _, samples, count -> for (i in 0 until count) given += samples[i] }
        val flow = hearpack.start()
        hearpack.await(HearpackPhase.RUNNING)
        phone.output = Output(Port.BUILT_IN, Monitoring.REFUSED)
        phone.main { phone.onOutput?.invoke(phone.output) }
        wait { Muted.ROUTE in heard.outputs }
        hearpack.answer(true)
        wait { heard.outputs.last() == null }
        wait {
            phone.sources
                .single()
                .over.count == 0L
        }
        hearpack.stop()
        assertEquals(emptyList(), within { flow.toList() })
        assertEquals(twice.toList(), given.drop(4).take(twice.size))
        assertEquals(
            twice.toList(),
            hearpack.result
                ?.recording
                ?.b()
                ?.toList(),
        )
    }

    @Test fun aClosedOneSaysSo() {
        val phone = phone()
        val hearpack = Hearpack(classifier(), phone)
        hearpack.await(HearpackPhase.READY)
        hearpack.close()
        val flow = hearpack.start()
        assertFailsWith<StreamException> { within { flow.toList() } }
    }
}
