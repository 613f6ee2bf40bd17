package hearpack.app

import android.content.Context
import android.media.AudioDeviceCallback
import android.media.AudioDeviceInfo
import android.media.AudioManager
import android.os.Handler
import hearpack.core.audio.Port

/** Where sound comes from and goes to, and when that changes. */
class Routes(
    context: Context,
    handler: Handler,
) {
    val manager = context.getSystemService(Context.AUDIO_SERVICE) as AudioManager

    /** The best output there is: what a media stream is played on. */
    @Volatile var output: Port = Port.NONE
        private set

    /** Counts changes of devices. */
    @Volatile var changes = 0
        private set

    init {
        val callback =
            object : AudioDeviceCallback() {
                override fun onAudioDevicesAdded(added: Array<AudioDeviceInfo>) = look()

                override fun onAudioDevicesRemoved(removed: Array<AudioDeviceInfo>) = look()
            }
        manager.registerAudioDeviceCallback(callback, handler)
        output = find()
    }

    private fun look() {
        val now = find()
        if (now != output) changes += 1
        output = now
    }

    private fun find(): Port {
        val ports = manager.getDevices(AudioManager.GET_DEVICES_OUTPUTS).map { portOf(it.type) }
        return ports.find { it.isHeadset } ?: ports.find { it == Port.BLUETOOTH_A2DP } ?: Port.BUILT_IN
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

    companion object {
        private const val TYPE_USB_HEADSET = 22 // API 26
        private const val TYPE_BLE_HEADSET = 26 // API 31

        fun portOf(type: Int): Port =
            when (type) {
                AudioDeviceInfo.TYPE_BUILTIN_MIC,
                AudioDeviceInfo.TYPE_BUILTIN_SPEAKER,
                AudioDeviceInfo.TYPE_BUILTIN_EARPIECE,
                -> Port.BUILT_IN

                AudioDeviceInfo.TYPE_WIRED_HEADSET, AudioDeviceInfo.TYPE_WIRED_HEADPHONES -> Port.WIRED

                AudioDeviceInfo.TYPE_USB_DEVICE, AudioDeviceInfo.TYPE_USB_ACCESSORY, TYPE_USB_HEADSET -> Port.USB

                AudioDeviceInfo.TYPE_BLUETOOTH_SCO -> Port.BLUETOOTH_HFP

                AudioDeviceInfo.TYPE_BLUETOOTH_A2DP -> Port.BLUETOOTH_A2DP

                TYPE_BLE_HEADSET -> Port.BLUETOOTH_LE

                else -> Port.OTHER
            }
    }
}
