package hearpack.tests

import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureFormat
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.Monitoring
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.Output
import hearpack.core.audio.PlaybackSink
import hearpack.core.audio.Port
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleFiles
import hearpack.core.bundle.ComputeUnit
import hearpack.core.bundle.EngineException
import hearpack.core.stream.EngineInfo
import hearpack.core.stream.Failure
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.SessionListener
import hearpack.core.stream.SoundEvent
import hearpack.core.trace.StreamFigures
import java.io.ByteArrayInputStream
import java.io.FileNotFoundException
import java.io.InputStream
import java.security.MessageDigest
import java.util.Collections
import java.util.concurrent.CountDownLatch

/** A bundle in memory. */
class MemoryFiles(
    val files: MutableMap<String, ByteArray>,
    override val name: String = "fake.hearpack",
) : BundleFiles {
    override fun open(path: String): InputStream =
        ByteArrayInputStream(files[path] ?: throw FileNotFoundException("no $path"))
}

fun sha256(bytes: ByteArray) =
    MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it.toInt() and 0xff) }

/** The text of a manifest; [more] is put before its last brace. */
fun manifestText(
    task: String = "enhancer",
    kind: String = "step",
    window: Int = 8,
    hop: Int = 4,
    delay: Int = 4,
    labels: Int = 0,
    rate: Int = 16000,
    schema: String = "hearpack/1",
    model: ByteArray = MODEL,
    more: String = "",
): String {
    val size = if (kind == "window") window else hop
    val output =
        if (labels >
            0
        ) {
            """{"name":"scores","shape":[1,$labels]"""
        } else {
            """{"name":"enhanced","shape":[1,$size]"""
        }
    val tail = ""","dtype":"float32","range":[-1,1],"meaning":"m"}"""
    val state = """{"in":"h","out":"h_out","shape":[1,2],"dtype":"float32","reset":"zeros"}"""
    val decisions =
        """"decisions":{"window_hop_samples":$hop,"smoothing_windows":2,"on_threshold":0.5,"off_threshold":0.3,
           "min_on_ms":0,"min_off_ms":0,"per_label":{}},"""
    return """{"schema":"$schema","name":"fake","task":"$task","from_the_future":1,
        "geometry":{"sample_rate_hz":$rate,"channels":1,"window_samples":$window,"hop_samples":$hop,
          "delay_samples":$delay},
        "buffer":{"kind":"$kind","hops_per_call":1,"samples":$size},
        "inputs":[{"name":"audio","shape":[1,$size]$tail],"outputs":[$output$tail],
        "states":[${if (kind == "step") state else ""}],${if (labels > 0) decisions else ""}
        "artefacts":[{"id":"litert-fp32","format":"litert","precision":{"weights":"fp32","compute":"fp32"},
          "files":[{"path":"litert/fake.tflite","sha256":"${sha256(model)}","bytes":${model.size}}],
          "minimum_os":{"android_api":26},"allowed_compute":["cpu","gpu"],"io":{},"state_mode":"explicit",
          "tolerance":[{"metric":"snr_db","limit":100},{"metric":"score_max_abs_error","limit":0.001}]}],
        "files":[]$more}"""
}

val MODEL = "a model".toByteArray()

fun fakeFiles(
    manifest: String,
    labels: List<String> = emptyList(),
): MemoryFiles {
    val text = labels.joinToString("") { "$it\n" }.toByteArray()
    val entry = """{"path":"labels.txt","sha256":"${sha256(text)}","bytes":${text.size}}"""
    val listed = manifest.replace("\"files\":[]", "\"files\":[$entry]").toByteArray()
    return MemoryFiles(mutableMapOf("manifest.json" to listed, "litert/fake.tflite" to MODEL, "labels.txt" to text))
}

fun fakeEnhancer(more: String = ""): Bundle = Bundle.open(fakeFiles(manifestText(more = more)), Given.API)

fun fakeClassifier(
    labels: List<String> = listOf("cat", "dog"),
    window: Int = 8,
    hop: Int = 4,
    more: String = "",
): Bundle {
    val text = manifestText("classifier", "window", window, hop, 0, labels.size, more = more)
    return Bundle.open(fakeFiles(text, labels), Given.API)
}

/**
 * An engine that can be checked by hand. Step nets give the input one call (the fake's delay) later, kept in the state
 * bank; windowed ones give the window's first and last sample as scores.
 */
open class FakeEngine(
    private val bundle: Bundle,
) : InferenceEngine {
    override val info = EngineInfo("fake", "1", ComputeUnit.CPU, ComputeUnit.CPU, "fake")
    private val banks = List(2) { FloatArray(bundle.manifest.buffer.samples) }
    private val step = bundle.labels.isEmpty()
    var calls = 0
    var closed = false

    /** Calls that fail: the number of the call, counted from 1. */
    var failAt = -1

    /** A call that gives NaN and spoils the state. */
    var nanAt = -1

    override fun reset(bank: Int) = banks[bank].fill(0f)

    override fun run(
        audio: FloatArray,
        output: FloatArray,
        from: Int,
        to: Int,
    ) {
        if (++calls == failAt) throw EngineException("the fake fails at call $calls")
        if (step) {
            System.arraycopy(banks[from], 0, output, 0, output.size)
            System.arraycopy(audio, 0, banks[to], 0, audio.size)
            if (calls == nanAt) {
                output[1] = Float.NaN
                banks[to].fill(Float.NaN)
            }
        } else {
            output[0] = audio[0]
            output[1] = audio[audio.size - 1]
        }
    }

    override fun close() {
        closed = true
    }
}

/** A clock that a test moves. */
class FakeClock(
    @Volatile var now: Long = 0,
) : Clock {
    override fun nanos(): Long = now
}

fun format(
    rateHz: Int,
    block: Int,
) = CaptureFormat(rateHz, 1, block, "float32", "none", "voice_recognition")

fun opened(
    rateHz: Int = 16000,
    block: Int = 4,
    port: Port = Port.BUILT_IN,
    output: Port = Port.BUILT_IN,
) = format(rateHz, block).let {
    val monitoring = if (output == Port.BUILT_IN) Monitoring.REFUSED else Monitoring.ALLOWED
    OpenedCapture(it, it, port, Output(output, monitoring))
}

/**
 * A microphone that plays a script: what each opening gives, and then its samples, block by block, and its code at the
 * end. A null entry of [openings] is an opening that fails.
 */
class ScriptedSource(
    private val openings: List<Take>,
) : CaptureSource {
    class Take(
        val opened: OpenedCapture?,
        val samples: FloatArray = FloatArray(0),
        val code: Int = 0,
        val fault: CaptureException? = null,
    )

    private var next = 0
    private var at = 0
    var openCount = 0
    var closeCount = 0

    @Volatile override var silenced = false

    /** Opened when the script is over. */
    val over = CountDownLatch(1)

    override fun open(): OpenedCapture {
        openCount++
        val take = openings[next++]
        at = 0
        take.fault?.let { throw it }
        return take.opened!!
    }

    override fun read(target: FloatArray): Int {
        val take = openings[next - 1]
        val n = minOf(target.size, take.samples.size - at)
        if (n == 0) {
            if (take.code != 0) return take.code
            over.countDown()
            Thread.sleep(1)
            return 0
        }
        System.arraycopy(take.samples, at, target, 0, n)
        at += n
        Thread.yield()
        return n
    }

    override fun timestamp(into: LongArray): Boolean {
        val rate = openings[next - 1].opened?.granted?.rateHz ?: return false
        into[0] = at.toLong()
        into[1] = at * 1_000_000_000L / rate
        return true
    }

    override fun close() {
        closeCount++
    }
}

/** Keeps what is reported to it. */
class Listener : SessionListener {
    val opened: MutableList<OpenedCapture> = Collections.synchronizedList(mutableListOf())
    val events: MutableList<SoundEvent> = Collections.synchronizedList(mutableListOf())
    val figures: MutableList<StreamFigures> = Collections.synchronizedList(mutableListOf())
    val silences: MutableList<Boolean> = Collections.synchronizedList(mutableListOf())
    val failed = CountDownLatch(1)

    @Volatile var failure: Failure? = null

    override fun onOpened(opened: OpenedCapture) {
        this.opened += opened
    }

    override fun onEvent(event: SoundEvent) {
        events += event
    }

    override fun onFigures(figures: StreamFigures) {
        this.figures += figures
    }

    override fun onSilenced(silenced: Boolean) {
        silences += silenced
    }

    @Volatile var speaker: String? = null

    override fun onSpeakerFailed(message: String) {
        speaker = message
    }

    override fun onFailed(failure: Failure) {
        this.failure = failure
        failed.countDown()
    }
}

/** A speaker that keeps what is played. */
class KeptSound(
    private val rateHz: Int,
) : PlaybackSink {
    val played: MutableList<Float> = Collections.synchronizedList(mutableListOf())

    override fun open(): Int = rateHz

    override fun write(
        samples: FloatArray,
        count: Int,
    ): Boolean {
        for (i in 0 until count) played += samples[i]
        Thread.sleep(1)
        return true
    }

    override fun close() = Unit
}
