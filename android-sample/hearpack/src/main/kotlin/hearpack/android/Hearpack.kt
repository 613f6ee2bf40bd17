package hearpack.android

import android.content.Context
import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureFault
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.PlaybackException
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFiles
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.StreamException
import hearpack.core.bundle.Task
import hearpack.core.stream.AudioSink
import hearpack.core.stream.Failure
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.Recording
import hearpack.core.stream.SelfCheckReport
import hearpack.core.stream.SessionListener
import hearpack.core.stream.SoundEvent
import hearpack.core.stream.StreamSession
import hearpack.core.stream.eventSpan
import hearpack.core.trace.ColdStart
import hearpack.core.trace.StreamFigures
import hearpack.core.trace.TraceEnd
import hearpack.core.trace.TraceRecorder
import kotlinx.coroutines.channels.BufferOverflow
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.consumeAsFlow
import kotlinx.coroutines.flow.onCompletion

private const val KEPT_S = 30
private const val MOST_EVENTS = 1024

/**
 * A bundle on the microphone: loads, checks, warms up, listens, and lives through routes, other apps and dead devices.
 *
 *     val hearpack = Hearpack(context, Bundles(context).installed().first())
 *     hearpack.start().collect { event ->
 *         if (event.offsetSample == null) println("${event.label} since ${hearpack.seconds(event).begin} s")
 *     }
 *
 * It begins to load when it is made. Any thread may call it, and none waits. The permission to record is the app's to ask
 * for, and so is a foreground service, without which Android silences an app that is not on the screen.
 *
 * @param files the bundle, for instance of [Bundles.installed].
 * @param listener told on the main thread what a screen may want to show.
 */
class Hearpack internal constructor(
    private val files: BundleFiles,
    private val phone: Phone,
    private val listener: HearpackListener = object : HearpackListener {},
) : AutoCloseable {
    constructor(
        context: Context,
        files: BundleFiles,
        listener: HearpackListener = object : HearpackListener {},
    ) : this(files, AndroidPhone(context.applicationContext), listener)

    /** Seconds from the stream's start; [end] is null while the event lasts. */
    data class Seconds(
        val begin: Double,
        val end: Double?,
    )

    private val unchecked =
        EngineException("the self-check failed: this device does not compute what the model computes")
    private val readyNs = phone.clock.nanos()
    private val phases = MutableStateFlow(HearpackPhase.LOADING)
    private val newest = MutableStateFlow<StreamFigures?>(null)

    // All that follows changes on the main thread only.
    @Volatile private var model: LoadedModel? = null

    @Volatile private var trace: TraceRecorder? = null
    private var session: StreamSession? = null
    private var speaker: GatedSink? = null
    private var recording: Recording? = null
    private var failure: Failure? = null
    private var refused: Throwable? = null
    private var events: Channel<SoundEvent>? = null
    private var wantsStart = false

    /** What it is doing. */
    val phase: StateFlow<HearpackPhase> = phases.asStateFlow()

    /** About ten times a second while a stream runs; null before the first. */
    val figures: StateFlow<StreamFigures?> = newest.asStateFlow()

    /** Null before the bundle was opened and its model loaded. */
    val bundle: Bundle? get() = model?.bundle

    /** What the last stream has left. */
    @Volatile var result: StreamResult? = null
        private set

    /** Gets an enhancer's output at the model's rate, on the inference thread; set it before [start]. */
    @Volatile var onAudio: AudioSink? = null

    init {
        phone.onThermal = { trace?.thermal(it) }
        phone.main {
            phone.onOutput = {
                speaker?.gate?.route(it.monitoring)
                outputChanged()
            }
        }
        open()
    }

    /** Tries again what failed. */
    fun load() =
        phone.main {
            if (phases.value == HearpackPhase.FAILED) {
                phases.value = HearpackPhase.LOADING
                open()
            }
        }

    /**
     * Listens, as soon as the model is ready.
     *
     * @return the events, in order, for one collector: once when each turns on (no offset) and once when it is over. It
     *     ends with [stop] and throws what ended the stream; whoever stops collecting stops the stream. Of events that
     *     nobody collects, the last 1,024 wait.
     */
    fun start(): Flow<SoundEvent> {
        val channel = Channel<SoundEvent>(MOST_EVENTS, BufferOverflow.DROP_OLDEST)
        phone.main {
            events?.close() // whoever started before hears no more
            events = channel
            wantsStart = phases.value != HearpackPhase.STARTING && phases.value != HearpackPhase.RUNNING
            goOn()
        }
        return channel.consumeAsFlow().onCompletion { phone.main { if (events === channel) stopNow() } }
    }

    /** Ends the stream: what was captured is worked on, then [result] is there. Harmless if there is none. */
    fun stop() = phone.main(::stopNow)

    /** The user's answer whether the output in doubt is a headset; an enhancer is heard by no loudspeaker. */
    fun answer(isHeadset: Boolean) = phone.main { phone.answer(isHeadset) }

    /** When an event began and ended, for people. */
    fun seconds(event: SoundEvent): Seconds {
        val manifest = bundle?.manifest ?: return Seconds(0.0, null)
        val (begin, end) = eventSpan(event, manifest.hopSamples, manifest.buffer.samples)
        val rate = manifest.geometry.sampleRateHz.toDouble()
        return Seconds(begin / rate, end?.let { it / rate })
    }

    /** Ends the stream, and lets go of model and phone; it cannot be started any more. */
    override fun close() =
        phone.main {
            if (phases.value == HearpackPhase.CLOSED) return@main
            stopNow()
            phases.value = HearpackPhase.CLOSED
            end(null)
            phone.onOutput = null
            // Behind the end of the stream, which uses both.
            phone.background {
                phone.main {
                    model?.opened?.engine?.close()
                    model = null
                    phone.close()
                }
            }
        }

    private fun open() =
        phone.background {
            try {
                val loaded = loadModel(files, phone, readyNs, ::loaded, ::checking)
                if (loaded == null) tell { refuse(unchecked) } else phone.main { ready(loaded) }
            } catch (e: BundleException) {
                refused(e)
            } catch (e: EngineException) {
                refused(e)
            } catch (e: RuntimeException) {
                refused(e)
            } catch (e: LinkageError) {
                refused(e) // no LiteRT for this processor
            } catch (e: OutOfMemoryError) {
                refused(e)
            }
        }

    /** On the main thread, while anybody wants to know. */
    private fun tell(what: () -> Unit) = phone.main { if (phases.value != HearpackPhase.CLOSED) what() }

    private fun refused(error: Throwable) =
        tell {
            listener.onRefused(error)
            refuse(error)
        }

    private fun refuse(error: Throwable) {
        refused = error
        phases.value = HearpackPhase.FAILED
        goOn()
    }

    private fun loaded(
        opened: OpenedEngine,
        cold: ColdStart,
    ) = tell { listener.onLoaded(opened, cold) }

    private fun checking(
        fraction: Double,
        report: SelfCheckReport?,
    ) = tell {
        if (phases.value == HearpackPhase.LOADING) phases.value = HearpackPhase.CHECKING
        if (report == null) listener.onChecking(fraction) else listener.onChecked(report)
    }

    private fun ready(loaded: LoadedModel) {
        if (phases.value == HearpackPhase.CLOSED) return loaded.opened.engine.close()
        model = loaded
        phases.value = HearpackPhase.READY
        goOn()
    }

    /** What [start] waits for has come, or will not come. */
    private fun goOn() {
        when (phases.value) {
            HearpackPhase.READY -> if (wantsStart) begin()
            HearpackPhase.FAILED -> end(refused)
            HearpackPhase.CLOSED -> end(StreamException("this Hearpack was closed; make another"))
            else -> return
        }
    }

    /** No more events. */
    private fun end(error: Throwable?) {
        wantsStart = false
        events?.close(error)
        events = null
    }

    private fun begin() {
        val model = model ?: return
        wantsStart = false
        failure = null
        if (!phone.mayRecord()) {
            val message = "the app has no permission to record; ask the user for it first"
            return refuseStart(Failure(CaptureFault.NO_PERMISSION, message))
        }
        phases.value = HearpackPhase.STARTING
        val recorder = TraceRecorder()
        recorder.cold { model.cold }
        recorder.thermal(phone.thermal())
        val enhances = model.bundle.manifest.task == Task.ENHANCER
        val geometry = model.bundle.manifest.geometry
        val kept = if (enhances) Recording(geometry.sampleRateHz, geometry.delaySamples, KEPT_S) else null
        val speaker = if (enhances) phone.speaker { phone.main(::outputChanged) } else null
        val engine = model.opened.engine
        val told = Told()
        val stream =
            try {
                StreamSession(
                    model.bundle,
                    engine,
                    phone.microphone(),
                    speaker,
                    kept,
                    phone.clock,
                    recorder,
                    told,
                    onAudio,
                )
            } catch (e: PlaybackException) {
                speaker?.close()
                phases.value = HearpackPhase.READY
                return refuseStart(Failure(null, e.message ?: "no message"))
            }
        told.session = stream
        trace = recorder
        recording = kept
        session = stream
        this.speaker = speaker
        stream.start(phone::start)
    }

    private fun refuseStart(failure: Failure) {
        listener.onFailed(failure)
        end(failure.asException())
    }

    private fun outputChanged() {
        speaker?.let { listener.onOutput(phone.output, it.gate.muted) }
    }

    private fun stopNow() {
        wantsStart = false
        val stream = session
        if (stream == null) return end(null)
        if (phases.value == HearpackPhase.STOPPING) return
        phases.value = HearpackPhase.STOPPING
        phone.background {
            val whole = stream.stop()
            phone.main { stopped(stream, whole) }
        }
    }

    private fun stopped(
        stream: StreamSession,
        whole: Boolean,
    ) {
        session = null
        speaker = null
        val model = model ?: return
        if (phases.value == HearpackPhase.STOPPING) phases.value = HearpackPhase.READY
        val unanswered =
            Failure(CaptureFault.UNAVAILABLE, "the audio device does not answer; close the app and open it again")
        val failed = failure ?: unanswered.takeIf { !whole }
        val left = StreamResult(recording, writing(model, stream))
        result = left
        listener.onStopped(left)
        failed?.let(listener::onFailed)
        // Whoever has asked to start again meanwhile waits for other events.
        if (wantsStart) goOn() else end(failed?.asException())
    }

    private fun writing(
        model: LoadedModel,
        stream: StreamSession,
    ): (() -> String)? {
        val recorder = trace ?: return null
        val capture = stream.opened ?: return null
        val failure = failure
        val reason = if (failure == null) "stopped" else "error"
        val end = TraceEnd(phone.clock.nanos(), reason, failure?.message, phone.peakMemoryBytes())
        val writer = phone.writer(model.bundle, model.opened)
        return { writer.write(recorder, capture, stream.ringSamples, stream.devices, end) }
    }

    private fun Failure.asException() = fault?.let { CaptureException(it, message) } ?: StreamException(message)

    /** What a session tells on its own threads, told on the main thread while it is the one that runs. */
    private inner class Told : SessionListener {
        lateinit var session: StreamSession

        private fun tell(what: () -> Unit) = phone.main { if (session === this@Hearpack.session) what() }

        override fun onOpened(opened: OpenedCapture) =
            tell {
                if (phases.value == HearpackPhase.STARTING) phases.value = HearpackPhase.RUNNING
                listener.onOpened(opened)
            }

        override fun onEvent(event: SoundEvent) =
            tell {
                events?.trySend(event)
                listener.onEvent(event)
            }

        override fun onFigures(figures: StreamFigures) =
            tell {
                newest.value = figures
                listener.onFigures(figures)
            }

        override fun onSilenced(silenced: Boolean) = tell { listener.onSilenced(silenced) }

        override fun onSpeakerFailed(message: String) = tell { listener.onSpeakerFailed(message) }

        override fun onFailed(failure: Failure) =
            tell {
                this@Hearpack.failure = failure
                stopNow()
            }
    }
}
