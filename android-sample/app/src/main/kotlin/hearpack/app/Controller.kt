package hearpack.app

import android.app.Application
import android.content.Intent
import android.os.Handler
import android.os.Looper
import hearpack.android.Bundles
import hearpack.android.ClipPlayer
import hearpack.android.Hearpack
import hearpack.android.HearpackListener
import hearpack.android.Routes
import hearpack.android.StreamResult
import hearpack.core.audio.Muted
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.Output
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFiles
import hearpack.core.stream.Failure
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.SelfCheckReport
import hearpack.core.stream.SoundEvent
import hearpack.core.trace.ColdStart
import hearpack.core.trace.StreamFigures
import hearpack.core.ui.Page
import hearpack.core.ui.StreamPhase
import hearpack.core.ui.UiEvent
import hearpack.core.ui.UiState
import hearpack.core.ui.reduce
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.flow.catch
import kotlinx.coroutines.flow.launchIn
import kotlinx.coroutines.flow.onCompletion
import kotlinx.coroutines.flow.onEach
import java.io.File
import java.util.concurrent.Executor
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

/**
 * [Hearpack] for the screens: one a page, of the bundle that was chosen for it; what it tells becomes [UiState]. All of it
 * on the main thread but the look for bundles and the writing of traces.
 */
class Controller(
    private val app: Application,
) {
    private val main = Handler(Looper.getMainLooper())
    private val scope = CoroutineScope(Executor { main.post(it) }.asCoroutineDispatcher())
    private val background = Executors.newSingleThreadExecutor()
    private val bundles = Bundles(app)
    private val routes = Routes(app, main)
    private val player = ClipPlayer(app, routes) { main.post { send(UiEvent.SpeakerFailed(it)) } }
    private val found = mutableMapOf<Page, List<BundleFiles>>()
    private val hearpacks = mutableMapOf<Page, Hearpack>()
    private var running: Hearpack? = null
    private var result: StreamResult? = null

    var state = UiState()
        private set

    /** Draws the state; set by the activity while it is shown. */
    var onState: ((UiState) -> Unit)? = null

    init {
        background.execute {
            for (page in Page.entries) {
                val files = bundles.of(page.task)
                main.post {
                    found[page] = files
                    if (files.isEmpty()) send(UiEvent.BundleAbsent(page)) else choose(page, 0)
                }
            }
        }
    }

    /** Main thread: something happened. */
    fun send(event: UiEvent) {
        state = reduce(state, event)
        onState?.invoke(state)
    }

    /** Main thread: a page runs another of its bundles. */
    fun choose(
        page: Page,
        index: Int,
    ) {
        val files = found[page] ?: return
        if (running != null) return
        player.stop()
        hearpacks.remove(page)?.close()
        if (page == state.page) result = null
        send(UiEvent.BundleChosen(page, files.map { it.name }, files[index].name))
        hearpacks[page] = Hearpack(app, files[index], Told(page, files[index]))
    }

    /** Main thread: opens and checks a page's model again. */
    fun load(page: Page) = hearpacks[page]?.load() ?: Unit

    /** Main thread: the button; the permission is there. */
    fun start() {
        if (!state.canStart) return
        send(UiEvent.StartPressed)
        if (state.stream == StreamPhase.STARTING) app.startService(Intent(app, StreamService::class.java))
    }

    /** Main thread: the service is in the foreground. */
    fun begin() {
        val hearpack = hearpacks[state.page]
        if (running != null) return
        if (hearpack == null || state.stream != StreamPhase.STARTING) return ended() // stopped while it was starting
        player.stop()
        running = hearpack
        hearpack
            .start()
            .onEach { show(it, hearpack) }
            .onCompletion { ended() }
            .catch { } // told as a failure, in words for the screen
            .launchIn(scope)
    }

    private fun ended() {
        running = null
        if (state.stream != StreamPhase.IDLE) send(UiEvent.Stopped(false)) // nothing had begun
        app.stopService(Intent(app, StreamService::class.java))
    }

    private fun show(
        event: SoundEvent,
        hearpack: Hearpack,
    ) {
        val manifest = hearpack.bundle?.manifest ?: return
        val rate = manifest.geometry.sampleRateHz
        send(UiEvent.EventCame(event, rate, manifest.hopSamples, manifest.buffer.samples))
    }

    /** Main thread: the user says whether the output in doubt is a headset. */
    fun answer(isHeadset: Boolean) = hearpacks[state.page]?.answer(isHeadset) ?: Unit

    /** Main thread: the button, the notification, or the service ends. The stream ends in its own time. */
    fun stop() {
        val stream = running ?: return ended()
        if (state.stream == StreamPhase.STOPPING) return
        send(UiEvent.StopPressed)
        stream.stop()
    }

    /** Main thread: plays what was recorded: A as it was, B enhanced. */
    fun compare(enhanced: Boolean) {
        val kept = result?.recording ?: return
        player.play(if (enhanced) kept.b() else kept.a(), kept.sampleRateHz)
    }

    /** Writes the last stream's trace to a file, and hands it over on the main thread. */
    fun writeTrace(done: (File) -> Unit) {
        val left = result ?: return
        background.execute {
            val text = left.trace() ?: return@execute
            val file = File(TraceProvider.folder(app), "hearpack-trace.json")
            file.writeText(text)
            main.post { done(file) }
        }
    }

    /** What a page's [Hearpack] tells, as what happens on the screen. */
    private inner class Told(
        private val page: Page,
        private val files: BundleFiles,
    ) : HearpackListener {
        override fun onLoaded(
            opened: OpenedEngine,
            coldStart: ColdStart,
        ) = send(UiEvent.EngineReady(page, files.name, opened.engine.info, opened.refused, coldStart))

        override fun onChecking(fraction: Double) = send(UiEvent.Checking(page, fraction))

        override fun onChecked(report: SelfCheckReport) = send(UiEvent.SelfChecked(page, report))

        override fun onRefused(error: Throwable) =
            when (error) {
                is BundleException -> send(UiEvent.BundleRefused(page, error.fault, error.message ?: ""))
                else -> send(UiEvent.EngineRefused(page, error.message ?: error.toString()))
            }

        override fun onOutput(
            output: Output,
            muted: Muted?,
        ) = send(UiEvent.OutputChanged(output, muted))

        override fun onOpened(opened: OpenedCapture) = send(UiEvent.Opened(opened))

        override fun onFigures(figures: StreamFigures) = send(UiEvent.FiguresCame(figures))

        override fun onSilenced(silenced: Boolean) = send(UiEvent.Silenced(silenced))

        override fun onSpeakerFailed(message: String) = send(UiEvent.SpeakerFailed(message))

        override fun onStopped(result: StreamResult) {
            this@Controller.result = result
            send(UiEvent.Stopped((result.recording?.samples ?: 0) > 0))
        }

        override fun onFailed(failure: Failure) = send(UiEvent.Failed(failure))
    }
}
