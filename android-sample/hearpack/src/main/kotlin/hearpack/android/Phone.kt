package hearpack.android

import android.Manifest
import android.content.Context
import android.content.pm.PackageManager
import android.os.Build
import android.os.Handler
import android.os.Looper
import android.os.Process
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.Output
import hearpack.core.audio.PlaybackGate
import hearpack.core.audio.PlaybackSink
import hearpack.core.bundle.Bundle
import hearpack.core.stream.EngineFactory
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.ThreadRole
import hearpack.core.trace.ThermalState
import hearpack.core.trace.TraceWriter
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors

/** A speaker that a gate keeps silent where it would howl. */
interface GatedSink : PlaybackSink {
    val gate: PlaybackGate
}

/** What [Hearpack] needs of the phone; tests have one of their own. */
internal interface Phone {
    val clock: Clock
    val androidApi: Int
    val engines: EngineFactory

    /** Whether the engine opened last found a sound weight cache: cold, warm or none. */
    val weightCache: String

    /** What a media stream is played on now. */
    val output: Output

    /** Called on the main thread after [output] has changed. */
    var onOutput: ((Output) -> Unit)?

    /** Called on any thread when the phone becomes warmer or cooler. */
    var onThermal: ((ThermalState) -> Unit)?

    /** Runs it on the main thread. */
    fun main(task: () -> Unit)

    /** Runs it behind what was given before, on a thread that may wait. */
    fun background(task: () -> Unit)

    fun mayRecord(): Boolean

    fun microphone(): CaptureSource

    fun speaker(onMuted: () -> Unit): GatedSink

    fun answer(isHeadset: Boolean)

    fun start(
        role: ThreadRole,
        body: Runnable,
    ): Thread

    fun thermal(): ThermalState

    fun peakMemoryBytes(): Long?

    fun writer(
        bundle: Bundle,
        opened: OpenedEngine,
    ): TraceWriter

    /** Whether this model passed its self-check on this device before. */
    fun hasChecked(bundle: Bundle): Boolean

    fun markChecked(bundle: Bundle)

    fun close()
}

internal class AndroidPhone(
    private val context: Context,
) : Phone {
    private val handler = Handler(Looper.getMainLooper())
    private val worker: ExecutorService = Executors.newSingleThreadExecutor()
    private val device = Device(context)
    private val routes = Routes(context, handler)
    private val bundles = Bundles(context)
    private val checks = context.getSharedPreferences("self-check", Context.MODE_PRIVATE)

    override val clock = ProcessClock
    override val androidApi = Build.VERSION.SDK_INT
    override val engines = bundles
    override val weightCache get() = bundles.weightCache
    override val output get() = routes.output
    override var onOutput by routes::onChange

    @Volatile override var onThermal: ((ThermalState) -> Unit)? = null

    init {
        device.onThermal { onThermal?.invoke(it) }
    }

    override fun main(task: () -> Unit) {
        handler.post(task)
    }

    override fun background(task: () -> Unit) = worker.execute(task)

    override fun mayRecord() =
        context.checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED

    override fun microphone() = MicSource(routes)

    override fun speaker(onMuted: () -> Unit): GatedSink {
        routes.refresh() // another Hearpack may have asked the user meanwhile
        return Speaker(context, routes) { onMuted() }
    }

    override fun answer(isHeadset: Boolean) {
        routes.output.device?.let { routes.answer(it, isHeadset) }
    }

    override fun start(
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

    override fun thermal() = device.thermal()

    override fun peakMemoryBytes() = device.peakMemoryBytes()

    override fun writer(
        bundle: Bundle,
        opened: OpenedEngine,
    ) = TraceWriter(device.app(), device.info(), bundle, opened, LiteRtEngine.THREADS)

    /** Checked once, and again when model, LiteRT or Android change. */
    private fun key(bundle: Bundle) =
        "${bundle.artefact.files.first().sha256} ${LiteRtEngine.VERSION} ${device.info().osVersion}"

    override fun hasChecked(bundle: Bundle) = checks.getBoolean(key(bundle), false)

    override fun markChecked(bundle: Bundle) = checks.edit().putBoolean(key(bundle), true).apply()

    override fun close() {
        onThermal = null
        device.close()
        routes.close()
        worker.shutdown()
    }
}
