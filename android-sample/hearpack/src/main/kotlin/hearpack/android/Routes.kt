package hearpack.android

import android.content.Context
import android.media.AudioDeviceCallback
import android.media.AudioDeviceInfo
import android.media.AudioManager
import android.os.Handler
import hearpack.core.audio.Output
import hearpack.core.audio.OutputDevice
import hearpack.core.audio.outputOf

/** Where sound comes from and goes to, and when that changes. What the user said of a device is remembered. */
class Routes(
    context: Context,
    val handler: Handler,
) {
    val manager = context.getSystemService(Context.AUDIO_SERVICE) as AudioManager
    private val answers = context.getSharedPreferences("headsets", Context.MODE_PRIVATE)

    /** What a media stream is played on. */
    @Volatile var output: Output = find()
        private set

    /** Counts changes of devices. */
    @Volatile var changes = 0
        private set

    /** Main thread: another output, or another answer. */
    var onChange: ((Output) -> Unit)? = null

    private val callback =
        object : AudioDeviceCallback() {
            override fun onAudioDevicesAdded(added: Array<AudioDeviceInfo>) = look(true)

            override fun onAudioDevicesRemoved(removed: Array<AudioDeviceInfo>) = look(true)
        }

    init {
        manager.registerAudioDeviceCallback(callback, handler)
    }

    /** Main thread: the answers of another [Routes] count here too. */
    fun refresh() = look(false)

    /** Hears of no change any more. */
    fun close() = manager.unregisterAudioDeviceCallback(callback)

    private fun look(devices: Boolean) {
        val now = find()
        val same = now == output
        if (devices && now.port != output.port) changes += 1
        output = now
        // An unplugged headset silences us until the route is known again, even if it is the same kind.
        if (devices || !same) onChange?.invoke(now)
    }

    private fun find(): Output {
        val connected = manager.getDevices(AudioManager.GET_DEVICES_OUTPUTS)
        val known = answers.all.mapNotNull { (key, value) -> (value as? Boolean)?.let { key to it } }.toMap()
        return outputOf(connected.map { OutputDevice(it.type, it.productName?.toString() ?: "") }, known)
    }

    /** Main thread: the user says whether the device in doubt is a headset. */
    fun answer(
        device: OutputDevice,
        isHeadset: Boolean,
    ) {
        answers.edit().putBoolean(device.key, isHeadset).apply()
        look(false)
    }

    /** The device's own rate and burst: another rate loses the fast path. */
    fun nativeRateHz(): Int = number(AudioManager.PROPERTY_OUTPUT_SAMPLE_RATE, 48_000)

    fun burstFrames(): Int = number(AudioManager.PROPERTY_OUTPUT_FRAMES_PER_BUFFER, 192)

    fun hasUnprocessed(): Boolean =
        manager.getProperty(AudioManager.PROPERTY_SUPPORT_AUDIO_SOURCE_UNPROCESSED)?.toBoolean() ?: false

    private fun number(
        property: String,
        otherwise: Int,
    ): Int = manager.getProperty(property)?.toIntOrNull()?.takeIf { it > 0 } ?: otherwise
}
