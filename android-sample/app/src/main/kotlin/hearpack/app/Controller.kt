package hearpack.app

import android.app.Application
import android.content.Context
import android.content.Intent
import android.os.Handler
import android.os.Looper
import android.os.Process
import hearpack.android.Bundles
import hearpack.android.ClipPlayer
import hearpack.android.Device
import hearpack.android.LiteRtEngine
import hearpack.android.MicSource
import hearpack.android.ProcessClock
import hearpack.android.Routes
import hearpack.android.Speaker
import hearpack.core.audio.CaptureFault
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.PlaybackException
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.EngineException
import hearpack.core.stream.Failure
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.Recording
import hearpack.core.stream.SelfCheck
import hearpack.core.stream.SessionListener
import hearpack.core.stream.SoundEvent
import hearpack.core.stream.StreamSession
import hearpack.core.stream.ThreadRole
import hearpack.core.stream.openBest
import hearpack.core.trace.ColdStart
import hearpack.core.trace.StreamFigures
import hearpack.core.trace.TraceEnd
import hearpack.core.trace.TraceRecorder
import hearpack.core.trace.TraceWriter
import hearpack.core.ui.Page
import hearpack.core.ui.StreamPhase
import hearpack.core.ui.UiEvent
import hearpack.core.ui.UiState
import hearpack.core.ui.reduce
import java.io.File
import java.util.concurrent.Executors

/** Owns the controller, so that a rotation does not stop the stream. */
class HearpackApp : Application() {
    lateinit var controller: Controller
        private set

    override fun onCreate() {
        super.onCreate()
        controller = Controller(this)
    }
}

private class Loaded(
    val bundle: Bundle,
    val opened: OpenedEngine,
    val cold: ColdStart,
)

/**
 * Turns what happens into [UiState], and starts and stops streams. State changes on the main thread only; models are
 * opened and checked on one background thread.
 */
class Controller(
    private val app: Application,
) : SessionListener {
    private val main = Handler(Looper.getMainLooper())
    private val background = Executors.newSingleThreadExecutor()
    private val stopper = Executors.newSingleThreadExecutor()
    private val bundles = Bundles(app)
    private val device = Device(app)
    private val routes = Routes(app, main)
    private val player = ClipPlayer(app, routes) { post(UiEvent.SpeakerFailed(it)) }
    private val loaded = mutableMapOf<Page, Loaded>()
    private val appReadyNs = ProcessClock.nanos()
    private var session: StreamSession? = null
    private var speaker: Speaker? = null

    @Volatile private var trace: TraceRecorder? = null
    private var recording: Recording? = null
    private var failure: Failure? = null
    private var lastTrace: (() -> String)? = null

    var state = UiState()
        private set

    /** Draws the state; set by the activity while it is shown. */
    var onState: ((UiState) -> Unit)? = null

    init {
        device.onThermal { trace?.thermal(it) }
        routes.onChange = {
            speaker?.gate?.route(it.monitoring)
            outputChanged()
        }
        Page.entries.forEach(::load)
    }

    /** Main thread: something happened. */
    fun send(event: UiEvent) {
        state = reduce(state, event)
        onState?.invoke(state)
    }

    private fun post(event: UiEvent) {
        main.post { send(event) }
    }

    /** Opens and checks a page's model, again if it failed before. */
    fun load(page: Page) {
        background.execute {
            try {
                val bundle = bundles.find(page.task)
                if (bundle == null) post(UiEvent.BundleAbsent(page)) else open(page, bundle)
            } catch (e: BundleException) {
                post(UiEvent.BundleRefused(page, e.fault, e.message ?: ""))
            } catch (e: EngineException) {
                post(UiEvent.EngineRefused(page, e.message ?: ""))
            } catch (e: RuntimeException) {
                post(UiEvent.EngineRefused(page, e.toString()))
            } catch (e: LinkageError) {
                post(UiEvent.EngineRefused(page, e.toString())) // no LiteRT for this processor
            } catch (e: OutOfMemoryError) {
                post(UiEvent.EngineRefused(page, e.toString()))
            }
        }
    }

    private fun open(
        page: Page,
        bundle: Bundle,
    ) {
        val recorder = TraceRecorder(0)
        recorder.cold { it.copy(appReadyNs = appReadyNs, bundleCheckedNs = ProcessClock.nanos()) }
        val opened = openBest(bundle, bundles, ProcessClock, recorder)
        var kept = false
        try {
            recorder.cold { it.copy(weightCache = bundles.weightCache) }
            val cold = recorder.coldStart
            post(UiEvent.EngineReady(page, bundle.manifest.folderName, opened.engine.info, opened.refused, cold))
            if (needsCheck(bundle) && !check(page, bundle, opened)) return
            kept = true
            main.post {
                loaded[page]?.opened?.engine?.close()
                loaded[page] = Loaded(bundle, opened, cold)
            }
        } finally {
            if (!kept) opened.engine.close()
        }
    }

    /** Whether the device computes what the model computes; the screen hears of every tenth of the way. */
    private fun check(
        page: Page,
        bundle: Bundle,
        opened: OpenedEngine,
    ): Boolean {
        var tenth = -1
        val result =
            SelfCheck(bundle, opened.engine).run {
                if ((it * 10).toInt() == tenth) return@run
                tenth = (it * 10).toInt()
                post(UiEvent.Checking(page, tenth / 10.0))
            }
        if (result.passed) markChecked(bundle)
        post(UiEvent.SelfChecked(page, result))
        return result.passed
    }

    /** A model is checked on its first run on this device, and again when model, app or system change. */
    private fun checkKey(bundle: Bundle) =
        "${bundle.artefact.files.first().sha256} ${LiteRtEngine.VERSION} ${device.info().osVersion}"

    private fun checks() = app.getSharedPreferences("self-check", Context.MODE_PRIVATE)

    private fun needsCheck(bundle: Bundle) = !checks().getBoolean(checkKey(bundle), false)

    private fun markChecked(bundle: Bundle) = checks().edit().putBoolean(checkKey(bundle), true).apply()

    /** Main thread: the button; the permission is there. */
    fun start() {
        if (!state.canStart || loaded[state.page] == null) return
        send(UiEvent.StartPressed)
        if (state.stream == StreamPhase.STARTING) app.startService(Intent(app, StreamService::class.java))
    }

    /** Main thread: the service is in the foreground. */
    fun begin() {
        val model = loaded[state.page]
        if (session != null) return
        if (model == null || state.stream != StreamPhase.STARTING) {
            app.stopService(Intent(app, StreamService::class.java)) // stopped while it was starting
            return
        }
        player.stop()
        failure = null
        val recorder = TraceRecorder()
        recorder.cold { model.cold }
        recorder.thermal(device.thermal())
        val manifest = model.bundle.manifest
        val enhances = state.page == Page.ENHANCE
        val kept =
            if (enhances) {
                Recording(
                    manifest.geometry.sampleRateHz,
                    manifest.geometry.delaySamples,
                    KEPT_S,
                )
            } else {
                null
            }
        val speaker = if (enhances) Speaker(app, routes) { main.post(::outputChanged) } else null
        val engine = model.opened.engine
        val stream =
            try {
                StreamSession(model.bundle, engine, MicSource(routes), speaker, kept, ProcessClock, recorder, this)
            } catch (e: PlaybackException) {
                speaker?.close()
                send(UiEvent.Failed(Failure(null, e.message ?: "no message")))
                app.stopService(Intent(app, StreamService::class.java))
                return
            }
        trace = recorder
        recording = kept
        session = stream
        this.speaker = speaker
        stream.start { role, body -> thread(role, body) }
    }

    private fun thread(
        role: ThreadRole,
        body: Runnable,
    ): Thread {
        val priority =
            if (role == ThreadRole.INFERENCE) Process.THREAD_PRIORITY_AUDIO else Process.THREAD_PRIORITY_URGENT_AUDIO
        val prioritised =
            Runnable {
                Process.setThreadPriority(priority)
                body.run()
            }
        return Thread(prioritised, "hearpack-${role.name.lowercase()}").apply { start() }
    }

    /** Main thread: what is heard, and why not. */
    private fun outputChanged() {
        speaker?.let { send(UiEvent.OutputChanged(routes.output, it.gate.muted)) }
    }

    /** Main thread: the user says whether the output in doubt is a headset. */
    fun answer(isHeadset: Boolean) {
        routes.output.device?.let { routes.answer(it, isHeadset) }
    }

    /** Main thread: the button, the notification, or the service ends. The threads end in their own time. */
    fun stop() {
        val stream = session
        if (stream == null) {
            if (state.stream == StreamPhase.STARTING) send(UiEvent.Stopped(false))
            app.stopService(Intent(app, StreamService::class.java))
            return
        }
        if (state.stream == StreamPhase.STOPPING) return
        send(UiEvent.StopPressed)
        stopper.execute {
            val whole = stream.stop()
            main.post { stopped(stream, whole) }
        }
    }

    private fun stopped(
        stream: StreamSession,
        whole: Boolean,
    ) {
        session = null
        speaker = null
        val model = loaded.getValue(state.page)
        val recorder = trace
        val capture = stream.opened
        if (recorder != null && capture != null) {
            val reason = if (failure == null) "stopped" else "error"
            val end = TraceEnd(ProcessClock.nanos(), reason, failure?.message, device.peakMemoryBytes())
            val writer = TraceWriter(device.app(), device.info(), model.bundle, model.opened, LiteRtEngine.THREADS)
            lastTrace = { writer.write(recorder, capture, stream.ringSamples, stream.devices, end) }
        }
        send(UiEvent.Stopped((recording?.samples ?: 0) > 0))
        val unanswered =
            Failure(CaptureFault.UNAVAILABLE, "the audio device does not answer; close the app and open it again")
        (failure ?: unanswered.takeIf { !whole })?.let { send(UiEvent.Failed(it)) }
        app.stopService(Intent(app, StreamService::class.java))
    }

    /** Main thread: plays what was recorded: A as it was, B enhanced. */
    fun compare(enhanced: Boolean) {
        val kept = recording ?: return
        player.play(if (enhanced) kept.b() else kept.a(), kept.sampleRateHz)
    }

    /** Writes the last stream's trace to a file, and hands it over on the main thread. */
    fun writeTrace(done: (File) -> Unit) {
        val make = lastTrace ?: return
        background.execute {
            val file = File(TraceProvider.folder(app), "hearpack-trace.json")
            file.writeText(make())
            main.post { done(file) }
        }
    }

    override fun onOpened(opened: OpenedCapture) = post(UiEvent.Opened(opened))

    override fun onEvent(event: SoundEvent) {
        main.post {
            val manifest = loaded[state.page]?.bundle?.manifest
            if (manifest != null) {
                val rate = manifest.geometry.sampleRateHz
                send(UiEvent.EventCame(event, rate, manifest.hopSamples, manifest.buffer.samples))
            }
        }
    }

    override fun onFigures(figures: StreamFigures) = post(UiEvent.FiguresCame(figures))

    override fun onSilenced(silenced: Boolean) = post(UiEvent.Silenced(silenced))

    override fun onSpeakerFailed(message: String) = post(UiEvent.SpeakerFailed(message))

    override fun onFailed(failure: Failure) {
        main.post {
            this.failure = failure
            stop()
        }
    }

    private companion object {
        const val KEPT_S = 30
    }
}
